"""Outcomes in files: each revision once, however often it is said or somebody is killed; none outlives its decision."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from contracts import OutcomeObserved
from services.recorder import metrics, store
from services.recorder.domain.observed import OUTCOMES, Newest, Observation, Place, place_of, revisions, rows_of
from services.recorder.files import Files
from services.recorder.usecases.erasing import Asked
from services.recorder.usecases.retention import Retention
from services.recorder.usecases.upkeep import Upkeep

from .house import AT, OFFICER, House

pytestmark = pytest.mark.usefixtures("as_the_recorder")

SAID = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.sampled_from([0.0, 1.0, "no"])), max_size=12)


def event(id: str, row: int, label: float | str, second: int = 0) -> OutcomeObserved:
    at = AT + timedelta(seconds=second)
    return OutcomeObserved(
        inference_id=id, row=row, label=label, value=None, endpoint="sizes", use_case="sorting", model="threshold",
        version=2, variant="champion", prediction=1.0, score=None, entity=None, received_at=AT, observed_at=at,
    )  # fmt: skip


@given(said=SAID, size=st.integers(1, 12))
def test_however_a_stream_is_cut_into_batches_its_revisions_are_the_changes_of_each_row(
    said: list[tuple[str, int, float | str]], size: int
) -> None:
    stream = [(offset, event(*each, second=offset)) for offset, each in enumerate(said)]
    newest: dict[Place, Newest] = {}
    found: list[Observation] = []
    for first in range(0, len(stream), size):
        new = revisions(stream[first : first + size], {"a": "retail", "b": "retail"}, newest)
        newest |= {place_of(each.event): each.newest for each in new}
        found += new
    for place in {(id, row) for id, row, _ in said}:
        labels = [label for id, row, label in said if (id, row) == place]
        changes = [label for n, label in enumerate(labels) if n == 0 or labels[n - 1] != label]
        own = [each for each in found if place_of(each.event) == place]
        assert [(each.revision, each.event.label) for each in own] == list(enumerate(changes, 1))


def test_what_was_overtaken_or_is_about_no_known_decision_is_no_revision() -> None:
    said = [(0, event("a", 0, 1.0, second=5)), (1, event("a", 0, 0.0, second=4)), (2, event("b", 0, 1.0))]
    assert [each.offset for each in revisions(said, {"a": "retail"}, {})] == [0]


def test_a_label_is_a_number_or_a_text_in_the_same_schema() -> None:
    both = [Observation(event("a", 0, 1.0), "retail", 0, 1), Observation(event("a", 1, "late"), "retail", 1, 1)]
    made = rows_of(both)
    assert made.schema == OUTCOMES
    assert made.select(["row", "label", "label_text", "unit", "observed_at"]).to_pylist() == [
        {"row": 0, "label": 1.0, "label_text": None, "unit": "retail", "observed_at": AT},
        {"row": 1, "label": None, "label_text": "late", "unit": "retail", "observed_at": AT},
    ]


async def decided(house: House) -> None:
    """Three decisions of two rows; the first is anna's."""
    await house.many([house.head(id, 0, 2, entity=who) for id, who in (("a", "anna"), ("b", "ben"), ("c", None))])


async def test_a_repeat_is_written_once_and_a_correction_is_a_revision(house: House) -> None:
    await decided(house)
    before = metrics.OUTCOMES.labels("written")._value.get(), metrics.OUTCOMES.labels("left out")._value.get()
    first = house.observed("a", 1.0, row=1)
    await house.write_outcomes(first, house.observed("b", "late"), first)
    await house.write_outcomes(first, house.observed("a", 0.0, 2, row=1, value=7.5), house.observed("unknown", 1.0))
    await house.write_outcomes(house.observed("a", 1.0, 3, row=1))
    assert house.outcomes() == [("a", 1, 1, 1.0), ("a", 1, 2, 0.0), ("a", 1, 3, 1.0), ("b", 0, 1, "late")]
    after = metrics.OUTCOMES.labels("written")._value.get(), metrics.OUTCOMES.labels("left out")._value.get()
    assert (after[0] - before[0], after[1] - before[1]) == (4, 3)
    rows = ds.dataset(house.settings.outcomes, OUTCOMES, partitioning="hive").to_table().to_pylist()
    (row,) = (each for each in rows if each["revision"] == 2)
    about = {"unit": "retail", "model": "threshold", "version": 2, "received_at": AT, "value": 7.5}
    assert {name: row[name] for name in about} == about and row["reported_at"] == row["observed_at"]
    assert len(house.lying()) == 6, "decisions are read without their outcomes"


async def test_a_batch_that_was_rolled_back_is_written_again_under_the_same_names(house: House) -> None:
    await decided(house)
    said = [house.observed("a", 1.0), house.observed("b", 1.0, endpoint="other")]
    with pytest.raises(ConnectionError):
        await house.fold(*said, first=70, fails=True)
    await house.fold(*said, first=70)
    await house.upkeep.place()
    assert house.outcomes() == [("a", 0, 1, 1.0), ("b", 0, 1, 1.0)]
    names = sorted(path.name for path in house.settings.outcomes.glob("endpoint=*/*/*/*.parquet"))
    assert names == [f"p0-{n:015d}-{n:015d}.parquet" for n in (70, 71)]


class Killed(BaseException):
    """The process ends here."""


def dying(patched: pytest.MonkeyPatch, kind: Any, name: str) -> None:
    """From now on that call is the last thing that the recorder does."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    patched.setattr(kind, name, die)


WRITING = [(Files, "write"), (store, "add_outcomes"), (Files, "place"), (store, "mark_placed")]


@pytest.mark.parametrize(("kind", "name"), WRITING)
async def test_a_batch_that_is_killed_at_a_step_is_written_once(
    house: House, monkeypatch: pytest.MonkeyPatch, kind: Any, name: str
) -> None:
    await decided(house)
    said = [house.observed("a", 1.0), house.observed("a", 0.0, 1), house.observed("b", 1.0)]
    committed = name in ("place", "mark_placed")
    with monkeypatch.context() as patched, suppress(Killed):
        dying(patched, kind, name)
        await house.fold(*said, first=5)
        await house.upkeep.place()
    await house.upkeep.place()
    wanted = [("a", 0, 1, 1.0), ("a", 0, 2, 0.0), ("b", 0, 1, 1.0)]
    assert house.outcomes() == (wanted if committed else [])
    if not committed:  # its offset was not kept: it comes again
        await house.fold(*said, first=5)
        await house.upkeep.place()
    assert house.outcomes() == wanted


async def test_small_files_of_outcomes_become_one_beside_those_of_decisions(house: House) -> None:
    await decided(house)
    await decided_later(house)
    for n, id in enumerate("abc"):
        await house.write_outcomes(house.observed(id, 1.0, n))
    before, decisions = house.outcomes(), house.lying()
    await house.compact()
    names = [path.name for path in house.settings.outcomes.glob("endpoint=*/*/*/*.parquet")]
    assert len(names) == 1 and names[0].startswith("m-") and len(house.names()) == 1
    assert house.outcomes() == before and house.lying() == decisions


async def decided_later(house: House) -> None:
    await house.many([house.head("d", 5, 2, entity="anna")])


@pytest.mark.parametrize("merged", [True, False])
async def test_who_is_erased_leaves_the_files_of_outcomes_and_does_not_come_back(house: House, merged: bool) -> None:
    await decided(house)
    said = [house.observed(id, 1.0, entity=who) for id, who in (("a", "anna"), ("b", "ben"))]
    await house.write_outcomes(*said)
    await house.write_outcomes(house.observed("a", 0.0, 1, entity="anna"))
    if merged:
        await house.compact()
    done = await house.erase("anna")
    assert house.outcomes() == [("b", 0, 1, 1.0)]
    assert done.files == (2 if merged else 3), "that of the decision is one"
    await house.write_outcomes(house.observed("a", 1.0, 2, entity="anna"))  # said before, read after
    assert house.outcomes() == [("b", 0, 1, 1.0)]
    content = b"".join(path.read_bytes() for path in house.settings.outcomes.rglob("*.parquet"))
    assert b"ben" in content and b"anna" not in content


ERASING = [
    (store, "erase"), (store, "next_leaving"), (store, "withdraw"), (store, "rewrite"), (store, "empty"),
    (Upkeep, "place"), (Files, "remove"), (store, "finish"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), ERASING)
async def test_an_erasure_that_is_killed_at_a_step_takes_the_outcomes_with_it_later(
    house: House, monkeypatch: pytest.MonkeyPatch, kind: Any, name: str
) -> None:
    await decided(house)
    await house.write_outcomes(house.observed("a", 1.0), house.observed("b", 1.0))
    await house.write_outcomes(house.observed("a", 0.0, 1))
    asked = await house.erasing.ask(OFFICER, Asked("anna", None, None, "as the law says"))
    with monkeypatch.context() as patched, suppress(Killed):
        dying(patched, kind, name)
        await house.erasing.go_on()
    await house.upkeep.place()
    assert ("b", 0, 1, 1.0) in house.outcomes()
    assert await house.erasing.go_on()
    done, left = await house.erasing.look(asked.id)
    assert (done.state, done.decisions, left) == ("done", 1, 0)
    assert house.outcomes() == [("b", 0, 1, 1.0)] and len(house.lying()) == 4


async def test_a_damaged_file_of_outcomes_keeps_an_erasure_open_until_it_is_gone(house: House) -> None:
    await decided(house)
    await house.write_outcomes(house.observed("a", 1.0), house.observed("b", 1.0))
    await house.write_outcomes(house.observed("c", 1.0))
    (broken, _) = sorted(house.settings.outcomes.glob("endpoint=*/*/*/*.parquet"))
    broken.write_bytes(b"nonsense")
    asked = await house.erasing.ask(OFFICER, Asked("anna", None, None, "as the law says"))
    assert not await house.erasing.go_on()
    found, left = await house.erasing.look(asked.id)
    assert (found.state, left) == ("running", 1) and found.problem and broken.name in found.problem
    broken.unlink()
    assert await house.erasing.go_on()
    assert (await house.erasing.look(asked.id))[0].state == "done"
    assert house.outcomes() == [("c", 0, 1, 1.0)]
    await house.write_outcomes(house.observed("b", 1.0, 1))
    assert ("b", 0, 1, 1.0) in house.outcomes(), "what is lost is written anew when it is said again"


async def test_what_is_too_old_leaves_within_a_day_and_what_is_younger_stays_in_the_same_file(house: House) -> None:
    await decided(house)
    century = 100 * 365 * 24 * 60
    await house.many([house.head("young", century, 1)])
    await house.write_outcomes(house.observed("a", 1.0), house.observed("young", 1.0, 1), house.observed("c", 0.0, 2))
    old = [("a", 0, 1, 1.0), ("c", 0, 1, 0.0)]
    assert await Retention(house.db, house.upkeep, timedelta(days=30)).forget()
    assert {id for id, _ in house.lying()} == {"young"}
    await house.withdrawing.go_on()
    assert set(house.outcomes()) == {*old, ("young", 0, 1, 1.0)}
    async with house.db.transaction() as tx:
        await tx.session.execute(text("UPDATE observation SET due = due - interval '1 day' WHERE due IS NOT NULL"))
    await house.withdrawing.go_on()
    assert house.outcomes() == [("young", 0, 1, 1.0)]
    async with house.db.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM observation")) == 1


async def test_an_erasure_takes_outcomes_too_whose_decisions_were_too_old_just_before(house: House) -> None:
    await decided(house)
    await house.many([house.head("young", 100 * 365 * 24 * 60, 1, entity="ben")])
    await house.write_outcomes(house.observed("a", 1.0), house.observed("young", 1.0, 1))
    assert await Retention(house.db, house.upkeep, timedelta(days=30)).forget()
    assert (await house.erase("anna")).state == "done"
    assert house.outcomes() == [("young", 0, 1, 1.0)]
