"""Reports whose decisions do not come: they cost a round nothing, are found when one comes, are seen to their end."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import text

from services.kit.errors import Invalid
from services.recorder import metrics, store
from services.recorder.domain.layout import Body, Place, file_name, folder, table
from services.recorder.domain.outcomes import PAUSES, Report
from services.recorder.store import patience

from .house import House
from .test_joining import Heard, joining, reported, states

pytestmark = pytest.mark.usefixtures("as_the_recorder")

AT_ONCE = (timedelta(0),)
DAYS = timedelta(days=30)
_BODY = Body({"size": np.ones(1)}, np.ones(1), None)


async def due(house: House) -> dict[str, tuple[int, bool]]:
    """By inference how often it was sought in vain, and whether the next round looks it up."""
    async with house.db.reading() as session:
        rows = await session.execute(
            text("SELECT inference_id, sought, seek_at IS NULL OR seek_at <= now() AS due FROM outcome")
        )
        return {row.inference_id: (row.sought, row.due) for row in rows}


async def seek(house: House, pauses: tuple[timedelta, ...] = PAUSES, again: int = 2_000) -> int:
    async with house.db.transaction() as tx:
        return await store.seek(tx.session, pauses, again)


async def pass_time(house: House, by: str) -> None:
    async with house.db.transaction() as tx:
        await tx.session.execute(text(f"UPDATE outcome SET seek_at = seek_at - interval '{by}'"))


async def join(house: House) -> list[str]:
    heard = Heard()
    while await joining(house).join(heard):  # pyright: ignore[reportArgumentType]
        pass
    return [event.inference_id for event in heard.events]


async def test_what_waits_in_vain_is_looked_up_once_and_then_after_growing_pauses(house: House) -> None:
    await reported(house, "orphan")
    assert await joining(house).seek() and await due(house) == {"orphan": (1, False)}
    assert not await joining(house).seek(), "a round looked at what waits"
    await pass_time(house, "3 seconds")
    assert await joining(house).seek() and await due(house) == {"orphan": (2, False)}
    await pass_time(house, "3 seconds")
    assert not await joining(house).seek(), "the second pause is no longer than the first"
    await pass_time(house, "8 seconds")
    assert await joining(house).seek() and await due(house) == {"orphan": (3, False)}


async def test_a_decision_that_is_recorded_wakes_the_reports_that_wait_for_it_and_no_others(house: House) -> None:
    await reported(house, "early", "orphan")
    await joining(house).seek()
    assert await join(house) == []
    await house.many([house.head("early", 0)])
    assert {id: due for id, (_, due) in (await due(house)).items()} == {"early": True, "orphan": False}
    assert await join(house) == ["early"] and await join(house) == []


async def test_a_report_that_is_sought_while_its_decision_is_being_written_is_observed_once(house: House) -> None:
    head = house.head("both", 0)
    place, rows = Place(f"{folder(head.endpoint, head.received_at)}/{file_name(0, 0, 9)}"), table([head], _BODY)
    size = house.files.write(place, [rows])
    async with house.db.transaction() as tx:
        await store.add_file(
            tx.session, store.NewFile(place.path, head.endpoint, head.unit, 0, 0, 9, rows.num_rows, (head,), size)
        )
        await reported(house, "both")  # what the decision's transaction woke did not hold it yet
        assert await seek(house, AT_ONCE) == 1 and await join(house) == []
    await house.upkeep.place()
    assert await join(house) == [] and await seek(house, AT_ONCE) == 1
    assert await join(house) == ["both"] and await join(house) == []
    assert await seek(house, AT_ONCE) == 0


async def test_a_report_that_is_looked_up_just_when_its_decision_is_written_is_joined_in_the_next_round(
    house: House,
) -> None:
    await reported(house, "early", "orphan")
    await seek(house)
    await pass_time(house, "3 seconds")
    async with house.db.transaction() as tx:
        assert await store.seek(tx.session, (timedelta(days=1),)) == 2
        await house.many([house.head("early", 0)])  # it does not wait for who holds the report
    assert await seek(house) == 0 and await join(house) == ["early"]
    async with house.db.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM missed")) == 0
    assert (await due(house))["orphan"] == (2, False)


async def test_new_reports_are_found_beside_any_number_that_are_to_be_looked_up_again(house: House) -> None:
    await reported(house, *(f"orphan-{n}" for n in range(50)))
    assert await seek(house, AT_ONCE) == 50
    await house.many([house.head("new", 0)])
    await reported(house, "new")
    assert await seek(house, AT_ONCE, again=10) == 10, "a round looks a part of them up"
    assert await join(house) == ["new"]


async def test_who_reports_an_expired_one_again_or_replays_it_has_it_wait_again_and_joined(house: House) -> None:
    await reported(house, "late")
    await joining(house).seek()
    async with house.db.transaction() as tx:
        await tx.session.execute(text("UPDATE outcome SET reported_at = now() - interval '31 days'"))
    before = metrics.OUTCOMES.labels("expired")._value.get()
    assert await joining(house).expire(DAYS)
    assert metrics.OUTCOMES.labels("expired")._value.get() == before + 1
    assert await states(house) == {"late": ("expired", "no decision with this id came within 30 days")}
    await house.many([house.head("late", 0)])
    assert await join(house) == []
    again = [Report("late", 0, 1.0, None, "somebody", None)]
    async with house.db.transaction() as tx:
        assert await store.report(tx.session, again) == store.Kept(new=1, repeated=0, withheld=0)
    assert await join(house) == ["late"]
    assert (await states(house))["late"] == ("observed", None)


async def test_whose_reports_met_no_decision_is_told_with_their_number_and_some_ids(house: House) -> None:
    retail = frozenset({"retail"})
    said = [Report(f"wrong-{n}", 0, 1.0, None, "application:a", retail) for n in range(5)]
    async with house.db.transaction() as tx:
        said += [replace(said[0], row=row) for row in range(1, 4)]
        await store.report(tx.session, [*said, Report("other", 0, 1.0, None, "application:b", None)])
        await tx.session.execute(text("UPDATE outcome SET reported_at = now() - interval '2 minutes'"))
        await store.report(tx.session, [Report("just now", 0, 1.0, None, "application:c", None)])
    first, second = await joining(house).unmet()
    assert (first.reported_by, first.units, first.reports, first.state) == ("application:a", ["retail"], 8, "waiting")
    assert first.examples == ["wrong-0", "wrong-1", "wrong-2"] and first.oldest <= first.newest
    assert (second.reported_by, second.units, second.reports) == ("application:b", None, 1)
    await joining(house).count()
    assert metrics.UNMET.labels("waiting")._value.get() == 10


async def test_to_tell_whose_reports_met_no_decision_takes_no_longer_than_a_list_may(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.2)
    async with house.db.transaction() as tx:
        await tx.session.execute(text("LOCK TABLE outcome IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(Invalid, match="fairlead_recorder_outcomes_unmet"):
            await joining(house).unmet()
