"""Files are merged and rewritten: no row is lost, none is there twice, and who was erased is nowhere any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from contracts import DecisionsErased
from services.kit.db import Tx
from services.kit.errors import Invalid, NotFound
from services.recorder import store
from services.recorder.domain.erasures import pseudonym
from services.recorder.domain.layout import Body, Place
from services.recorder.files import Files
from services.recorder.usecases.erasing import Asked, batched
from services.recorder.usecases.upkeep import Upkeep

from .house import KEY, OFFICER, House

pytestmark = pytest.mark.usefixtures("as_the_recorder")


async def filled(house: House, count: int = 6, rows: int = 2) -> list[tuple[str, int]]:
    """So many files of three decisions each, of two people, and one in the next hour."""
    for n in range(count):
        ids = [(f"d-{n}-{k}", ("anna", "ben", None)[k]) for k in range(3)]
        await house.many([house.head(id, n % 20, rows, entity=entity) for id, entity in ids])
    await house.many([house.head("later", 40, rows, entity="anna")])
    return house.lying()


async def test_small_files_of_an_hour_become_one_and_every_decision_is_found_in_it(house: House) -> None:
    before = await filled(house)
    assert len(before) == 38 and len(house.names()) == 7
    await house.compact()
    assert house.lying() == before
    assert len(house.names()) == 2 and house.names()[0].startswith("m-")
    whole = await house.reading.decision("d-4-1")
    assert [row["row"] for row in whole.rows] == [0, 1] and whole.index.entity == "ben"
    await house.many([house.head("late", 1)])
    await house.compact()
    assert len(house.names()) == 2 and len(house.lying()) == len(before) + 1
    assert (await house.reading.decision("d-0-0")).rows and (await house.reading.decision("late")).rows


async def test_a_merged_file_has_its_size_and_what_is_half_as_large_is_left_alone(house: House) -> None:
    before = await filled(house, 8, rows=2_000)
    sizes = [p.stat().st_size for p in house.settings.inferences.glob("endpoint=*/*/*/*.parquet")]
    await house.compact(3 * max(sizes))
    assert house.lying() == before and len(house.names()) == 4
    left = house.names()
    await house.compact(3 * max(sizes))
    assert house.names() == left


async def test_a_file_that_cannot_be_read_is_merged_with_none(house: House) -> None:
    before = await filled(house)
    (broken, *_) = sorted(house.settings.inferences.glob("endpoint=*/*/hour=10/*.parquet"))
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    await house.compact()
    assert broken.exists() and len(house.names()) == 3
    broken.write_bytes(whole)
    assert house.lying() == before


class Killed(BaseException):
    """The process ends here."""


def dying(house: House, monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> None:
    """From now on that call is the last thing that the recorder does."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(kind, name, die)


STEPS = [(store, "merge"), (Upkeep, "place"), (Files, "swap"), (Files, "_exchange"), (store, "mark_placed")]


@pytest.mark.parametrize(("kind", "name"), STEPS)
async def test_a_merge_that_is_killed_at_a_step_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch, kind: type, name: str
) -> None:
    before = await filled(house)
    with monkeypatch.context() as patched, suppress(Killed):
        dying(house, patched, kind, name)
        await house.compact()
    assert house.lying() == before
    assert (await house.reading.decision("d-4-1")).rows
    await house.upkeep.place()
    await house.compact()
    assert house.lying() == before and len(house.names()) == 2


async def test_where_a_merged_file_is_nowhere_its_members_stay(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await filled(house)
    with monkeypatch.context() as patched, suppress(Killed):
        dying(house, patched, Upkeep, "place")
        await house.compact()
    (lost,) = (house.settings.inferences / "_pending").glob("r-*")
    lost.unlink()
    await house.upkeep.place()
    assert house.lying() == before


async def test_who_lists_a_folder_while_it_is_merged_sees_each_row_once(house: House) -> None:
    before = await filled(house, 18)
    files = list(house.settings.inferences.glob("endpoint=*/*/hour=10/*"))
    rows: set[int] = set()

    def look() -> None:
        """Names alone: what was listed may be gone when it is opened."""
        (hour,) = house.settings.inferences.glob("endpoint=*/*/hour=10")
        while len(names := [path.name for path in hour.iterdir()]) > 1:
            rows.add(len(names))
        rows.add(len(names))

    listing = asyncio.create_task(asyncio.to_thread(look))
    await house.compact()
    await asyncio.wait_for(listing, 30)
    assert rows == {len(files), 1} and house.lying() == before


async def test_where_folders_cannot_be_exchanged_files_are_merged_one_by_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await filled(house)

    def refuse(*_: object) -> None:
        raise OSError("not on this file system")

    monkeypatch.setattr("services.recorder.files._exchange", refuse)
    await house.compact()
    assert house.lying() == before and len(house.names()) == 2


async def test_who_was_erased_is_in_no_file_no_book_and_no_snapshot(house: House) -> None:
    await house.learn("size")
    await filled(house)
    await house.observe("d-1-0", 0, 1.0)
    await house.observe("d-1-1", 0, 1.0)
    old = await house.freeze()
    await house.compact()
    done = await house.erase("anna")
    assert (done.state, done.entity, done.decisions, done.outcomes, done.snapshots) == ("done", None, 7, 1, 1)
    assert {id.rpartition("-")[2] for id, _ in house.lying()} == {"1", "2"} and len(house.lying()) == 24
    with pytest.raises(NotFound):
        await house.reading.decision("d-1-0")
    assert [len((await house.reading.decision(f"d-{n}-1")).rows) for n in range(6)] == [2] * 6
    async with house.db.reading() as session:
        left = [
            await session.scalar(text(f"SELECT count(*) FROM {name}")) for name in ("decision", "outcome", "erased")
        ]
        assert left == [12, 1, 0]
        said = [*await session.scalars(text("SELECT value FROM outbox"))]
    assert not any("anna" in (value or "") for value in said)
    assert any(pseudonym(KEY, "anna") in value for value in said)
    with pytest.raises(NotFound):
        await house.objects.get(old.digest)
    known = await house.snapshots.look(old.digest)
    assert known.removed_at and known.replaced_by and (await house.freeze()).digest == known.replaced_by


async def test_only_what_was_asked_for_is_erased(house: House) -> None:
    await house.many([house.head("one", 0, entity="anna"), house.head("two", 1, entity="anna", use_case="lending")])
    done = await house.erase("anna", "lending")
    assert done.decisions == 1 and house.lying() == [("one", 0)]
    assert (await house.erase("nobody")).decisions == 0


async def test_a_reason_that_names_the_entity_is_refused(house: House) -> None:
    with pytest.raises(Invalid, match="reason"):
        await house.erasing.ask(OFFICER, Asked("anna", None, None, "Anna asked for it"))


async def test_a_payload_goes_with_its_last_decision(house: House) -> None:
    shared, own = await house.objects.put(b"shared"), await house.objects.put(b"own")
    heads = [house.head("one", 0, entity="anna"), house.head("two", 1, entity="ben")]
    await house.write(heads, Body({"size": np.ones(2)}, np.ones(2), None), {"one": [shared, own], "two": [shared]})
    await house.erase("anna")
    assert await house.objects.exists(shared) and not await house.objects.exists(own)
    await house.erase("ben")
    assert not await house.objects.exists(shared) and house.lying() == []


ERASING = [
    (Files, "write"), (store, "erase"), (store, "rewrite"), (Upkeep, "place"), (Files, "place"), (store, "mark_placed"),
    (Files, "remove"), (store, "replace_snapshot"), (store, "remove_snapshot"), (store, "undoom"), (store, "finish"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), ERASING)
async def test_an_erasure_that_is_killed_at_a_step_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch, kind: type, name: str
) -> None:
    await house.learn("size")
    await filled(house, 3)
    digest = await house.objects.put(b"a payload")
    await house.write([house.head("x", 2, entity="anna")], Body({}, np.ones(1), None), {"x": [digest]})
    frozen = await house.freeze()
    asked = await house.erasing.ask(OFFICER, Asked("anna", None, None, "as the law says"))
    with monkeypatch.context() as patched, suppress(Killed):
        dying(house, patched, kind, name)
        await house.erasing.go_on()
    await house.upkeep.place()
    others = {(f"d-{n}-{k}", row) for n in range(3) for k in (1, 2) for row in (0, 1)}
    assert others <= set(house.lying()) and len(house.lying()) == len(set(house.lying()))
    assert await house.erasing.go_on()
    done, left = await house.erasing.look(asked.id)
    assert (done.state, done.decisions, done.snapshots, left) == ("done", 5, 1, 0)
    assert set(house.lying()) == others
    assert not await house.objects.exists(digest) and not await house.objects.exists(frozen.digest)


def unheard(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next rewriting commits, and the process ends before it hears so."""
    whole, rewrite, ends = house.db.transaction, store.rewrite, [False]

    async def noted(*args: Any) -> None:
        await rewrite(*args)
        ends[0] = True

    @asynccontextmanager
    async def transaction(*args: Any, **about: Any) -> AsyncIterator[Tx]:
        async with whole(*args, **about) as tx:
            yield tx
        if ends[0]:
            raise Killed

    monkeypatch.setattr(store, "rewrite", noted)
    monkeypatch.setattr(house.db, "transaction", transaction)


async def test_who_was_erased_is_in_no_file_where_nobody_heard_that_the_rewriting_committed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(house, 1)
    asked = await house.erasing.ask(OFFICER, Asked("anna", None, None, "as the law says"))
    with monkeypatch.context() as patched, suppress(Killed):
        unheard(house, patched)
        await house.erasing.go_on()
    await house.upkeep.sweep()
    assert await house.erasing.go_on()
    assert (await house.erasing.look(asked.id))[0].state == "done"
    assert [id for id, row in house.lying() if row == 0] == ["d-0-1", "d-0-2"]


async def test_an_erasure_whose_rewritten_file_is_nowhere_is_not_done_while_the_old_one_lies_there(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(house, 1)
    asked = await house.erasing.ask(OFFICER, Asked("anna", None, None, "as the law says"))
    with monkeypatch.context() as patched, suppress(Killed):
        unheard(house, patched)
        await house.erasing.go_on()
    (lost,) = (house.settings.inferences / "_pending").glob("r-*")
    lost.unlink()
    assert not await house.erasing.go_on()
    found, left = await house.erasing.look(asked.id)
    assert (found.state, left) == ("running", 0) and found.problem
    (stale,) = (
        path for path in house.settings.inferences.glob("endpoint=*/*/*/*.parquet") if path.name in found.problem
    )
    stale.unlink()
    assert await house.erasing.go_on()
    assert not {"d-0-0", "later"} & {id for id, _ in house.lying()}


async def test_a_damaged_file_keeps_an_erasure_open_and_says_so_until_it_is_gone(house: House) -> None:
    await filled(house)
    (broken, *_) = sorted(house.settings.inferences.glob("endpoint=*/*/hour=10/*.parquet"))
    broken.write_bytes(b"nonsense")
    asked = await house.erasing.ask(OFFICER, Asked("anna", None, None, "as the law says"))
    assert not await house.erasing.go_on()
    found, left = await house.erasing.look(asked.id)
    assert found.state == "running" and left == 1 and found.problem and broken.name in found.problem
    broken.unlink()
    assert await house.erasing.go_on()
    assert (await house.erasing.look(asked.id))[0].state == "done"
    async with house.db.reading() as session:
        known = [row.inference_id for row in await store.decisions(session, store.Wanted(), None, 100)]
        said = await session.scalars(text("SELECT value FROM outbox WHERE topic = 'decisions.erased'"))
        told = {id for value in said for id in DecisionsErased.from_json(value.encode()).inference_ids}
    assert len(known) == 10
    for id in known:  # nobody is left in the books whose row is lost
        assert (await house.reading.decision(id)).rows
    assert {"d-0-0", "d-0-1", "d-0-2"} <= told
    assert (await house.erase("ben")).state == "done"
    assert not any(id.endswith("-1") for id, _ in house.lying())


async def test_a_zombies_leftover_takes_nobodys_place(house: House) -> None:
    await filled(house, 2)
    place = Place(
        str(next(house.settings.inferences.glob("endpoint=*/*/hour=10/*")).relative_to(house.settings.inferences))
    )
    leftover = house.files.read(place)
    house.files.write(Place(place.path, "r-zombie"), [leftover])
    await house.erase("anna")
    assert not any(id.endswith("-0") for id, _ in house.lying())


async def test_who_holds_something_about_erased_decisions_is_told_which_and_the_answer_says_what_is_elsewhere(
    house: House,
) -> None:
    await filled(house, 3)
    done = await house.erase("anna")
    async with house.db.reading() as session:
        rows = (await session.execute(text("SELECT value FROM outbox WHERE topic = 'decisions.erased'"))).scalars()
        events = [DecisionsErased.from_json(value.encode()) for value in rows]
    assert {event.erasure_id for event in events} == {done.id}
    assert sorted(id for event in events for id in event.inference_ids) == ["d-0-0", "d-1-0", "d-2-0", "later"]
    elsewhere = {each.where: each.by for each in house.erasing.elsewhere(done) if each.by}
    day = timedelta(days=1)
    assert elsewhere["topic inference.completed.{endpoint}"] == done.requested_at + 8 * day, "7, and one for its file"
    assert elsewhere["topic inference.logged"] == done.requested_at + 15 * day, "halves of KServe's wait up to 7"
    assert elsewhere["topic dlq.inference.logged"] == done.requested_at + 46 * day
    assert elsewhere["topic inference.requested.{endpoint}"] == done.requested_at + timedelta(hours=30)


async def test_an_erasure_of_before_others_were_told_says_what_it_did_not_reach(house: House) -> None:
    await filled(house, 3)
    done = await house.erase("anna")
    async with house.db.transaction() as tx:
        await tx.session.execute(text("UPDATE erasure SET told = false"))
    old, _ = await house.erasing.look(done.id)
    for erasure, heard in ((done, True), (old, False)):
        (explained,) = (each for each in house.erasing.elsewhere(erasure) if each.what.startswith("explanations"))
        assert explained.how.startswith("removed on hearing decisions.erased") is heard
        assert (explained.by is None) is heard


def test_ids_are_told_in_parts() -> None:
    assert list(batched(["a", "b", "c"], 2)) == [("a", "b"), ("c",)]
    assert list(batched([], 2)) == []
