"""Whether an address is on this machine, however it is written."""

import pytest

from services.kit.hosts import elsewhere


@pytest.mark.parametrize("database", [
    "", "postgresql://u:p@localhost/db", "postgresql://u@127.0.0.1:5432/db", "postgresql://u@[::1]:5432/db",
    "postgresql://u@/db?host=::1", "postgresql://u@/db?host=/var/run/postgresql", "postgresql://u@/db?host=[::1]:5432",
    "postgresql://u@:5432/db", "postgresql://u@/db?host=", "postgresql://u@/db?host=localhost:5432,::1",
])  # fmt: skip
def test_this_machine_is_known(database: str) -> None:
    assert elsewhere("localhost:9092, 127.0.0.1:9092,[::1]:9092,localhost,", database) == []


@pytest.mark.parametrize(("bootstrap", "database", "far"), [
    ("", "postgresql://u@db.example/x", ["db.example"]),
    ("", "postgresql://u@localhost,db.example:5433/x", ["db.example"]),
    ("", "postgresql://u@localhost/x?host=::1&host=2001:db8::5", ["2001:db8::5"]),
    ("", "postgresql://u@[2001:db8::5]:5432/x", ["2001:db8::5"]),
    ("kafka.example:9092,localhost:9092", "", ["kafka.example"]),
    ("kafka.example", "", ["kafka.example"]),
    ("[2001:db8::5]:9092", "", ["2001:db8::5"]),
])  # fmt: skip
def test_another_machine_is_named(bootstrap: str, database: str, far: list[str]) -> None:
    assert elsewhere(bootstrap, database) == far
