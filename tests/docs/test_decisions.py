"""What docs/decisions.md shows can be run: on files as the recorder writes them."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deploy.embedded.home import ROOT
from services.recorder.domain.layout import SCHEMA, Body, Head, Place, folder, table
from services.recorder.domain.observed import OUTCOMES, Observation, rows_of
from services.recorder.files import Files
from tests.monitor.telling import outcome

AT = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
TEXT = (ROOT / "docs" / "decisions.md").read_text()


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of one endpoint, and one that nobody committed."""
    files = Files(tmp_path)
    for number in range(3):
        head = Head(f"d{number}", "sizes", "retail", "sorting", "threshold", 2, "champion", "rest", "application", None,
                    None, None, AT, 0.8, 2)  # fmt: skip
        place = Place(f"{folder('sizes', AT)}/p0-{number}-{number}.parquet")
        files.write(place, [table([head], Body({"a": np.array([1.0, 3.0])}, np.array([1.0, 0.0]), None))])
        if number < 2:
            files.place(place, 2)
    # Of the first decision both rows are known, one of them corrected: it was wrong, and is right.
    for number, (row, revision, label) in enumerate([(0, 1, 0.0), (0, 2, 1.0), (1, 1, 1.0)]):
        event = outcome("sizes", label, None, inference_id="d0", row=row, version=2, received_at=AT, observed_at=AT)
        place = Place(f"{folder('sizes', AT)}/p0-{number}-{number}.parquet", kind="outcomes")
        files.write(place, [rows_of([Observation(event, "retail", number, revision)])])
        files.place(place, 1)
    monkeypatch.chdir(tmp_path)


def example(heading: str) -> str:
    found = re.search(rf"## {heading}\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize(("place", "schema"), [(0, SCHEMA), (1, OUTCOMES)])
def test_every_column_of_the_files_is_documented(place: int, schema: pa.Schema) -> None:
    text = TEXT.split("## Outcomes")[place]
    rows = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) == set(schema.names)


def test_the_example_for_duckdb_answers(recorded: None) -> None:
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql(example("DuckDB")).fetchall() == [("sizes", 2, 4, 0.5, 2.0)]


def test_the_example_for_pandas_answers(recorded: None) -> None:
    pytest.importorskip("pandas")
    known: dict[str, object] = {}
    exec(example("pandas"), known)  # our own document
    assert known["shares"].to_dict("list") == {"size": [4], "mean": [0.5]}  # pyright: ignore[reportAttributeAccessIssue]


def test_the_example_for_duckdb_joins_the_newest_outcome_of_each_row(recorded: None) -> None:
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql(example("DuckDB, with what followed")).fetchall() == [("sizes", 2, 2, 0.5)]
    readme = (ROOT / "services" / "recorder" / "README.md").read_text()
    (joined,) = re.findall(r"```sql\n(.*?)```", readme, re.DOTALL)
    found = {(id, row): label for id, row, _, label, _ in duckdb.sql(joined).fetchall()}
    assert found == {("d0", 0): 1.0, ("d0", 1): 1.0, ("d1", 0): None, ("d1", 1): None}


def test_the_example_for_pandas_joins_the_newest_outcome_of_each_row(recorded: None) -> None:
    pytest.importorskip("pandas")
    known: dict[str, object] = {}
    exec(example("pandas, with what followed"), known)  # our own document
    assert known["accuracy"].to_dict("list") == {"size": [2], "mean": [0.5]}  # pyright: ignore[reportAttributeAccessIssue]


def test_the_example_for_arrow_joins_the_newest_outcome_of_each_row(recorded: None) -> None:
    known: dict[str, Any] = {}
    exec(example("Arrow, with what followed"), known)  # our own document
    rows = known["both"].sort_by("row").select(["inference_id", "row", "prediction", "label", "revision"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("d0", 0, 1.0, 1.0, 2), ("d0", 1, 0.0, 1.0, 1)]
