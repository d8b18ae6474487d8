"""What docs/decisions.md shows can be run: on files as the recorder writes them."""

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from deploy.embedded.home import ROOT
from services.recorder.domain.layout import SCHEMA, Body, Head, Place, folder, table
from services.recorder.files import Files

AT = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
TEXT = (ROOT / "docs" / "decisions.md").read_text()


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of one endpoint, and one that nobody committed."""
    files = Files(tmp_path / "inferences")
    for number in range(3):
        head = Head(f"d{number}", "sizes", "retail", "sorting", "threshold", 2, "champion", "rest", "application", None,
                    None, None, AT, 0.8, 2)  # fmt: skip
        place = Place(f"{folder('sizes', AT)}/p0-{number}-{number}.parquet")
        files.write(place, [table([head], Body({"a": np.array([1.0, 3.0])}, np.array([1.0, 0.0]), None))])
        if number < 2:
            files.place(place)
    monkeypatch.chdir(tmp_path)


def example(heading: str) -> str:
    found = re.search(rf"## {heading}\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert found
    return found[1]


def test_every_column_of_the_files_is_documented() -> None:
    rows = "\n".join(line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) == set(SCHEMA.names)


def test_the_example_for_duckdb_answers(recorded: None) -> None:
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql(example("DuckDB")).fetchall() == [("sizes", 2, 4, 0.5, 2.0)]


def test_the_example_for_pandas_answers(recorded: None) -> None:
    pytest.importorskip("pandas")
    known: dict[str, object] = {}
    exec(example("pandas"), known)  # our own document
    assert known["shares"].to_dict("list") == {"size": [4], "mean": [0.5]}  # pyright: ignore[reportAttributeAccessIssue]
