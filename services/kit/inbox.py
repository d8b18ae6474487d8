"""The inbox: an event that had its effect is known by its id for some weeks, then by its place below a mark.

The mark is the row `bus` of `stream_offset` for each partition of a topic: the event before it had its effect, and all
before that one had theirs, wait parked, or are dead letters, since a partition's events are settled in their order.
"""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from .context import Place
from .rights import DEAD_LETTERS_KEPT

_KEPT = DEAD_LETTERS_KEPT + timedelta(days=15)
"""A dead letter may have had its effect before it was written, or at a replay on its last day. Kafka removes it with
its segment, up to a week late, and who hears the replay may be behind: its inbox row outlives them all."""
_CLOCKS = timedelta(days=1)
"""More than the clocks of two machines differ, and than passes between asking and handling."""

_TAKE = text("INSERT INTO inbox (event) VALUES (:event) ON CONFLICT DO NOTHING RETURNING 1")

# A mark beyond the partition's end is of an earlier topic of this name.
_TAKE_AND_MARK = text("""
    WITH mark AS (
        INSERT INTO stream_offset AS stored (name, topic, partition, next)
        VALUES ('bus', :topic, :partition, CAST(:offset AS bigint) + 1)
        ON CONFLICT (name, topic, partition) DO UPDATE SET next = CASE
            WHEN stored.next > CAST(:end AS bigint) THEN excluded.next
            ELSE greatest(stored.next, excluded.next)
        END
    )
    INSERT INTO inbox (event) VALUES (:event) ON CONFLICT DO NOTHING RETURNING 1
""")


async def take(session: AsyncSession, event: str, place: Place | None) -> bool:
    """Note that this event has its effect in the running transaction; False where it had it before."""
    values = {"event": event}
    if place is None:
        return (await session.execute(_TAKE, values)).first() is not None
    return (await session.execute(_TAKE_AND_MARK, values | vars(place))).first() is not None


def may_have_forgotten(age_s: float) -> bool:
    """Whether the id of an event of this age may be forgotten, where it was handled at once."""
    return age_s > (_KEPT - _CLOCKS).total_seconds()


async def passed(session: AsyncSession, place: Place) -> bool:
    """Whether the event at this place was settled before, however long ago."""
    select = """
        SELECT next FROM stream_offset
        WHERE name = 'bus' AND topic = :topic AND partition = :partition AND next <= coalesce(:end, next)
    """
    mark: int | None = await session.scalar(text(select), vars(place))
    return mark is not None and place.offset < mark


async def forget(session: AsyncSession) -> None:
    """Delete the ids that no repeat can name any more but one that lies below a mark."""
    await session.execute(text("DELETE FROM inbox WHERE handled_at < now() - CAST(:kept AS interval)"), {"kept": _KEPT})
