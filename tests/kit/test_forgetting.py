"""What a service forgets of the events that it handled."""

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import text

from contracts import Service
from services.kit.db import Database
from services.kit.outbox import forget
from services.kit.rights import DEAD_LETTERS_KEPT

_SEGMENT = timedelta(days=7)
"""Kafka's default: records leave a topic with the segment that they are in."""


async def test_an_event_is_remembered_longer_than_a_dead_letter_of_it_can_be_replayed(
    service_db: Callable[[Service], Database],
) -> None:
    db, last_day = service_db("catalog"), DEAD_LETTERS_KEPT + _SEGMENT
    ages = {"replayable": last_day, "behind": last_day + _SEGMENT, "long past": last_day + 2 * _SEGMENT}
    async with db.chassis() as session:
        for event, age in ages.items():
            insert = "INSERT INTO inbox (event, handled_at) VALUES (:event, now() - CAST(:age AS interval))"
            await session.execute(text(insert), {"event": event, "age": age})
    await forget(db)
    async with db.chassis() as session:
        assert set(await session.scalars(text("SELECT event FROM inbox"))) == {"replayable", "behind"}
