"""The layout of the files, and which outcomes stand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import OutcomeReported
from services.kit.errors import Invalid
from services.recorder.domain.layout import SCHEMA, Body, Head, Place, file_name, folder, table
from services.recorder.domain.outcomes import Known, Report, checked, units_of
from services.recorder.files import Files, Lost

AT = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
UNITS = frozenset({"retail"})


def head(id: str = "one", rows: int = 1) -> Head:
    return Head(id, "employment", "retail", "benefits", "census", 2, "champion", "rest", "application", "person-1",
                None, None, AT, 0.8, rows)  # fmt: skip


def test_rows_are_numbered_within_their_inference_and_keep_their_columns() -> None:
    features = {"age": np.array([1.0, np.nan, 3.0]), "city": np.array(["Bern", None, "tok_1"], object)}
    made = table([head("a", 2), head("b", 1)], Body(features, np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.1, 0.8])))
    assert made.schema == SCHEMA
    assert made["row"].to_pylist() == [0, 1, 0]
    assert made["inference_id"].to_pylist() == ["a", "a", "b"]
    assert [dict(row)["age"] for row in made["features"].to_pylist()] == [1.0, None, 3.0]
    assert [dict(row)["city"] for row in made["texts"].to_pylist()] == ["Bern", None, "tok_1"]
    assert made["prediction"].to_pylist() == [1.0, 0.0, 1.0]


def test_texts_as_predictions_and_payloads_without_a_schema_have_their_places() -> None:
    made = table([head(rows=2)], Body({}, np.array(["yes", "no"], object), None))
    assert made["prediction_text"].to_pylist() == ["yes", "no"] and made["prediction"].null_count == 2
    unread = table([head(rows=2)], Body({}, None, None, ('{"request": 1}',)))
    assert unread["unread"].to_pylist() == ['{"request": 1}', None] and unread["features"].null_count == 2


def test_no_decision_is_infinite_and_a_columns_number_may_be() -> None:
    odd = np.array([np.inf, -np.inf, np.nan, 1.0])
    made = table([head(rows=4)], Body({"age": odd}, odd, odd))
    assert made["prediction"].to_pylist() == made["score"].to_pylist() == [None, None, None, 1.0]
    assert [dict(row)["age"] for row in made["features"].to_pylist()] == [np.inf, -np.inf, None, 1.0]


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_folders_follow_the_hour_in_utc(at: datetime) -> None:
    utc = at.astimezone(UTC) if at.year > 1 else at
    if at.year > 1 and at.year < 9999:
        assert folder("e", at) == f"endpoint=e/date={utc:%Y-%m-%d}/hour={utc:%H}"


def test_a_stranger_reads_only_files_that_were_committed(tmp_path: Path) -> None:
    files, path = Files(tmp_path), Place(f"{folder('employment', AT)}/{file_name(1, 5, 9)}")
    made = table([head("a", 2)], Body({"age": np.array([1.0, 2.0])}, np.array([1.0, 0.0]), None))
    files.write(path, [made])

    def seen() -> pa.Table:
        return ds.dataset(tmp_path / "inferences", partitioning="hive").to_table()

    assert seen().num_rows == 0 and files.read(path).num_rows == 2
    files.place(path, 2)
    files.place(path, 2)
    assert seen().num_rows == 2 and files.read(path).num_rows == 2
    assert set(seen()["endpoint"].to_pylist()) == {"employment"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"inference_id": ""}, "inference_id"), ({"inference_id": "x" * 101}, "inference_id"), ({"row": -1}, "row"),
     ({"label": None}, "label"), ({"label": "x" * 201}, "label")],
)  # fmt: skip
def test_an_outcome_that_says_nothing_useful_is_refused_by_its_field(wrong: dict[str, object], field: str) -> None:
    good = {"inference_id": "a", "row": 0, "label": 1.0}
    with pytest.raises(Invalid) as refused:
        checked(OutcomeReported.model_validate(good | wrong))
    assert refused.value.field == field


def test_a_repeat_is_the_same_event_and_a_correction_another() -> None:
    first, again = (Report("a", 0, 1.0, None, "x", None) for _ in range(2))
    assert first.event_id == again.event_id != Report("a", 0, 0.0, None, "x", None).event_id


@pytest.mark.parametrize(
    ("units", "row", "stands"),
    [(None, 0, True), (frozenset({"retail"}), 1, True), (frozenset({"*"}), 1, True), (frozenset({"wealth"}), 0, False),
     (None, 2, False)],
)  # fmt: skip
def test_an_outcome_stands_for_a_row_that_exists_in_a_unit_of_its_reporter(
    units: frozenset[str] | None, row: int, stands: bool
) -> None:
    known = Known(Report("a", row, 1.0, None, "x", units), "retail", "employment", 2, 7, AT)
    assert (known.refusal() is None) is stands


def test_a_file_that_is_not_there_or_damaged_is_lost_and_one_that_may_not_be_read_is_not(tmp_path: Path) -> None:
    files, path = Files(tmp_path), f"{folder('employment', AT)}/{file_name(1, 5, 9)}"
    place = Place(path)
    with pytest.raises(Lost, match="not there"):
        files.read(place)
    files.write(place, [table([head("a", 2)], Body({"age": np.array([1.0, 2.0])}, np.array([1.0, 0.0]), None))])
    files.place(place, 2)
    lying = tmp_path / "inferences" / path
    whole, half = lying.read_bytes(), len(lying.read_bytes()) // 2
    for damaged in (b"", b"nonsense", whole[:half], whole[:4] + b"\xff" * half + whole[4 + half :]):
        lying.write_bytes(damaged)
        with pytest.raises(Lost):
            files.read(place)
    lying.unlink()
    lying.mkdir()
    with pytest.raises(IsADirectoryError):
        files.read(place)


def test_a_report_of_one_part_keeps_the_other_and_a_later_part_replaces() -> None:
    label, value = Report("a", 0, 1.0, None, "x", UNITS), Report("a", 0, None, 2.5, "y", UNITS)
    assert (value.after(label).label, value.after(label).value) == (1.0, 2.5) and value.after(label).reported_by == "y"
    assert replace(label, label=0.0).after(value.after(label)).label == 0.0
    assert replace(value, units=frozenset({"wealth"})).after(label).label is None


@pytest.mark.parametrize(("said", "stands_for"), [(None, {"retail", "cards"}), ("cards", {"cards"})])
def test_an_outcome_over_the_topic_stands_for_the_unit_that_it_names(said: str | None, stands_for: set[str]) -> None:
    assert units_of(said, frozenset({"retail", "cards"})) == stands_for


@pytest.mark.parametrize("said", ["wealth", "", "*"])
def test_an_outcome_over_the_topic_names_no_unit_that_may_not_write_it(said: str) -> None:
    with pytest.raises(Invalid, match="ce_unit"):
        units_of(said, frozenset({"retail", "cards"}))
