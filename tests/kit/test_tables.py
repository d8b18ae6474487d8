"""Rows of Parquet objects: what is asked for, and hardly more, is read."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit import tables
from services.kit.errors import Invalid, NotFound
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.kit.tables import ParquetRows, Tables


class Counted(io.BytesIO):
    """A file that counts the bytes that were read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.count += len(found)
        return found


def numbers(rows: int, columns: int = 3) -> pa.Table:
    """Of no pattern, so that they take the room that they take."""
    draw = np.random.default_rng(7)
    return pa.table({"row": np.arange(rows)} | {f"c{n}": draw.normal(size=rows) for n in range(columns)})


def parquet(table: pa.Table, group_rows: int) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=group_rows)
    return file.getvalue()


def read(data: bytes, *ranges: tuple[int, int]) -> list[list[int]]:
    file = ParquetRows(pa.BufferReader(data))
    return [file.read(["row"], first, rows)["row"].to_pylist() for first, rows in ranges]


_SMALL = parquet(numbers(1_000), 170)


@given(st.lists(st.tuples(st.integers(0, 1_100), st.integers(0, 400)), max_size=6))
def test_any_rows_in_any_order_are_those_of_the_file(ranges: list[tuple[int, int]]) -> None:
    assert read(_SMALL, *ranges) == [list(range(1_000))[first : first + rows] for first, rows in ranges]


def test_a_column_that_the_file_has_not_is_left_out_and_the_rows_are_known_without_columns() -> None:
    file = ParquetRows(pa.BufferReader(_SMALL))
    assert file.read(["c0", "nothing"], 5, 10).column_names == ["c0"]
    assert file.read([], 5, 10).num_rows == 10
    assert file.read(["row"], 2_000, 10).num_rows == 0


def test_rows_of_a_large_file_cost_their_row_group_and_their_columns() -> None:
    file = Counted(parquet(numbers(1_000_000, 8), 20_000))
    whole = len(file.getvalue())
    rows = ParquetRows(file)
    footer, file.count = file.count, 0
    assert rows.read(["row", "c0"], 730_000, 4_000)["row"][0].as_py() == 730_000
    assert footer < whole / 50 and file.count < whole / 50  # a group is a fiftieth, and two columns of nine of it


def test_reading_on_in_one_large_row_group_reads_it_once_and_a_little_at_a_time() -> None:
    file = Counted(parquet(numbers(1_000_000, 2), 1_000_000))
    whole = len(file.getvalue())
    rows = ParquetRows(file)
    file.count = 0
    for first in range(0, 1_000_000, 4_000):
        assert rows.read(["row", "c0", "c1"], first, 4_000)["row"][0].as_py() == first
        assert file.count < whole * (first + 4_000) / 1_000_000 + 6 * 1024 * 1024
    assert file.count < 1.1 * whole


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[Objects]:
    yield Objects(Settings(home=tmp_path))


async def test_a_large_object_is_copied_once_and_leaves_nothing_behind(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_SMALL", 1_000)
    copied: list[str] = []
    fetch = objects.fetch

    async def counting(digest: str, to: Path) -> Path:
        copied.append(digest)
        return await fetch(digest, to)

    monkeypatch.setattr(objects, "fetch", counting)
    digests = [await objects.put(parquet(numbers(500 + n), 100)) for n in range(6)]
    opened = Tables(objects, tmp_path / "copies")
    for digest in (*digests[:4], *digests[:4]):
        assert (await opened.rows(digest, ["row"], 250, 3))["row"].to_pylist() == [250, 251, 252]
    assert copied == digests[:4] and list((tmp_path / "copies").iterdir()) == []
    for digest in (digests[4], digests[0]):  # four are kept: the one that was asked for longest ago goes
        await opened.rows(digest, ["row"], 0, 1)
    assert copied == [*digests[:5], digests[0]]


async def test_an_object_that_is_altered_or_no_parquet_or_not_there_is_refused(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Tables(objects, tmp_path / "copies")
    digest = await objects.put(_SMALL)
    for small in (1_000, 10_000_000):
        monkeypatch.setattr(tables, "_SMALL", small)
        with pytest.raises(Invalid, match="no Parquet"):
            await opened.rows(await objects.put(b"PAR1" + b"x" * 2_000), [], 0, 1)
        with pytest.raises(Invalid, match="no Parquet"):
            await opened.rows(await objects.put(_SMALL[:4] + b"\xff" * 900 + _SMALL[904:]), ["row"], 0, 1)
        with pytest.raises(NotFound):
            await opened.rows("sha256:" + "0" * 64, [], 0, 1)
    [stored] = (tmp_path / "objects").rglob(digest.removeprefix("sha256:"))
    stored.write_bytes(_SMALL + b"x")
    monkeypatch.setattr(tables, "_SMALL", 1_000)
    with pytest.raises(Invalid, match="altered"):
        await opened.rows(digest, [], 0, 1)
    assert list((tmp_path / "copies").iterdir()) == []
