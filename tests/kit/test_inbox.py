"""An event has its effect once, also after its id and the group's place were forgotten."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.structs import RecordMetadata
from sqlalchemy import text

from contracts import Service
from services.kit import deadletters, inbox
from services.kit.context import Place
from services.kit.db import Database
from services.kit.errors import Invalid, NotYet
from services.kit.outbox import forget
from services.kit.rights import DEAD_LETTERS_KEPT
from services.kit.settings import Settings
from services.kit.testing import eventually, running

from .hearing import Governor, bus, forget_group, fresh, publish, use_case

ServiceDb = Callable[[Service], Database]
ServiceSettings = Callable[[Service], Settings]

SEGMENT = timedelta(days=7)
"""Kafka's default: records leave a topic with the segment that they are in."""
LONG_AGO = timedelta(days=50)


@pytest.fixture
def governor(service_db: ServiceDb) -> Governor:
    return Governor(service_db("governor"), fresh())


async def age_inbox(db: Database, age: timedelta) -> None:
    """Let time pass over what was handled, and the hourly tidying come by."""
    async with db.chassis() as session:
        await session.execute(text("UPDATE inbox SET handled_at = handled_at - CAST(:age AS interval)"), {"age": age})
    await forget(db)


async def ids(db: Database) -> set[str]:
    async with db.chassis() as session:
        return set(await session.scalars(text("SELECT event FROM inbox")))


async def test_an_event_is_remembered_longer_than_a_dead_letter_of_it_can_be_replayed(service_db: ServiceDb) -> None:
    db, last_day = service_db("catalog"), DEAD_LETTERS_KEPT + SEGMENT
    ages = {"replayable": last_day, "behind": last_day + SEGMENT, "long past": last_day + 2 * SEGMENT}
    async with db.chassis() as session:
        for event, age in ages.items():
            insert = "INSERT INTO inbox (event, handled_at) VALUES (:event, now() - CAST(:age AS interval))"
            await session.execute(text(insert), {"event": event, "age": age})
    await forget(db)
    assert await ids(db) == {"replayable", "behind"}


async def mark(db: Database, place: RecordMetadata, next: int) -> None:
    """Say that a partition was settled up to there."""
    insert = "INSERT INTO stream_offset (name, topic, partition, next) VALUES ('bus', :topic, :partition, :next)"
    async with db.chassis() as session:
        await session.execute(text(insert), {"topic": "usecase.registered", "partition": place.partition, "next": next})


async def test_a_group_that_reads_from_the_start_repeats_no_effect_whose_id_is_forgotten(
    kafka: Path, settings_of: ServiceSettings, governor: Governor
) -> None:
    catalog, mine = settings_of("catalog"), governor.mine
    async with running(bus(settings_of, governor).run()):
        for n in (1, 2):
            await publish(catalog, mine, use_case(mine, n).to_json(), age=LONG_AGO)
        await eventually(lambda: governor.heard == [1, 2], within=20)
    await age_inbox(governor.db, LONG_AGO)
    assert await ids(governor.db) == set()
    await forget_group(kafka, "governor")
    async with running(bus(settings_of, governor).run()):
        await publish(catalog, mine, use_case(mine, 3).to_json(), age=LONG_AGO)
        await eventually(lambda: 3 in governor.heard, within=20)
    assert governor.heard == [1, 2, 3]


async def test_an_old_event_that_waits_parked_below_the_mark_has_its_effect_once(
    kafka: Path, settings_of: ServiceSettings, governor: Governor
) -> None:
    ready: list[bool] = []
    governor.fail = lambda e: NotYet("not there yet") if e.risk_tier == 1 and not ready else None
    catalog, mine = settings_of("catalog"), governor.mine
    async with running(bus(settings_of, governor).run()):
        early = await publish(catalog, mine, use_case(mine, 1).to_json(), age=LONG_AGO)
        await another_of_its_partition(catalog, mine, early)
        await eventually(lambda: 2 in governor.heard, within=20)
    await forget_group(kafka, "governor")
    ready.append(True)
    async with running(bus(settings_of, governor).run()):
        await publish(catalog, f"{mine}-last", use_case(f"{mine}-last", 3).to_json())
        await eventually(lambda: {1, 3} <= set(governor.heard), within=20)
    assert governor.heard.count(1) == 1


async def another_of_its_partition(catalog: Settings, mine: str, first: RecordMetadata) -> None:
    for n in range(100):
        key = f"{mine}-{n}"
        if (await publish(catalog, key, use_case(key, 2).to_json())).partition == first.partition:
            return
    raise AssertionError("no key of its partition")


async def test_an_event_that_was_parked_is_marked_when_it_has_its_effect(
    settings_of: ServiceSettings, governor: Governor
) -> None:
    ready: list[bool] = []
    governor.fail = lambda _: None if ready else NotYet("not there yet")
    async with running(bus(settings_of, governor).run()):
        early = await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 1).to_json())
        ready.append(True)
        await eventually(lambda: governor.heard == [1], within=20)
    async with governor.db.chassis() as session:
        assert await inbox.passed(session, Place(early.topic, early.partition, early.offset, early.offset + 1))


async def test_a_dead_letter_below_the_mark_has_its_effect_when_it_is_replayed(
    settings_of: ServiceSettings, governor: Governor
) -> None:
    broken = [True]
    governor.fail = lambda e: Invalid("nobody of that name") if e.risk_tier == 1 and broken else None
    catalog, mine, id = settings_of("catalog"), governor.mine, str(uuid4())
    async with running(bus(settings_of, governor).run()):
        await publish(catalog, mine, use_case(mine, 1).to_json(), id=id, age=LONG_AGO)
        await publish(catalog, mine, use_case(mine, 2).to_json())
        await eventually(lambda: governor.heard == [2], within=20)
        broken.clear()
        replay = {deadletters.FOR: "governor"}
        for _ in range(2):
            await publish(catalog, mine, use_case(mine, 1).to_json(), replay, id=id)
        await publish(catalog, mine, use_case(mine, 3).to_json())
        await eventually(lambda: 3 in governor.heard, within=20)
    assert governor.heard == [2, 1, 3]


@pytest.mark.parametrize("age", [timedelta(0), LONG_AGO])
async def test_the_mark_of_an_earlier_topic_of_this_name_hides_nothing(
    settings_of: ServiceSettings, governor: Governor, age: timedelta
) -> None:
    catalog, mine = settings_of("catalog"), governor.mine
    before = await publish(catalog, f"{mine}-before", use_case(f"{mine}-before", 1).to_json())
    await mark(governor.db, before, 1_000_000)
    async with running(bus(settings_of, governor).run()):
        await publish(catalog, f"{mine}-before", use_case(f"{mine}-before", 2).to_json(), age=age)
        await eventually(lambda: governor.heard == [1, 2], within=20)
    async with governor.db.chassis() as session:
        assert not await inbox.passed(session, Place(before.topic, before.partition, 999_999, 1_000_000))
