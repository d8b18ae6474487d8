"""Closed windows and labels as they are kept, for whoever looks at them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.outcomes.labelled import Labelled
from ..domain.windows import Part


@dataclass(frozen=True)
class Recorded:
    """A closed window of one version with its counts."""

    start: datetime
    end: datetime
    part: Part


async def windows(
    session: AsyncSession, name: str, version: int, after: datetime | None, limit: int
) -> Sequence[Recorded]:
    """Those that still have their counts, by start, after the one that starts at `after`."""
    select = """
        SELECT start, "end", data FROM closed_window
        WHERE endpoint = :name AND version = :version AND data IS NOT NULL
            AND (CAST(:after AS timestamptz) IS NULL OR start > :after)
        ORDER BY start LIMIT :limit
    """
    rows = await session.execute(text(select), {"name": name, "version": version, "after": after, "limit": limit})
    return [Recorded(r.start, r.end, Part.from_bytes(r.data)) for r in rows]


async def newest(session: AsyncSession, name: str, version: int, limit: int) -> Sequence[Recorded]:
    """The newest of those that still have their counts."""
    select = """
        SELECT start, "end", data FROM closed_window
        WHERE endpoint = :name AND version = :version AND data IS NOT NULL ORDER BY start DESC LIMIT :limit
    """
    rows = await session.execute(text(select), {"name": name, "version": version, "limit": limit})
    return [Recorded(r.start, r.end, Part.from_bytes(r.data)) for r in rows]


@dataclass(frozen=True)
class RecordedLabel:
    """What was counted of a row of one version."""

    inference_id: str
    number: int
    observed_at: datetime
    start: datetime
    """Of the window of outcomes in which the decision was made."""
    row: Labelled


async def labels_from(session: AsyncSession, name: str, version: int, at_most: int) -> datetime | None:
    """When the oldest of the newest so many labels of a version were observed; None where there are fewer."""
    select = """
        SELECT observed_at FROM outcome WHERE endpoint = :name AND version = :version
        ORDER BY observed_at DESC OFFSET :n LIMIT 1
    """
    return await session.scalar(text(select), {"name": name, "version": version, "n": at_most})


async def labels(
    session: AsyncSession, name: str, version: int, since: datetime | None, after: RecordedLabel | None, limit: int
) -> list[RecordedLabel]:
    """Rows that somebody was answered with, as their outcomes were observed (together: as they were decided).

    `since`: those observed after that moment.
    """
    select = """
        SELECT inference_id, row, observed_at, start, counted FROM outcome
        WHERE endpoint = :name AND version = :version AND NOT shadow
            AND (CAST(:since AS timestamptz) IS NULL OR observed_at > :since)
            AND (CAST(:at AS timestamptz) IS NULL OR (
                observed_at >= :at AND (observed_at, start, inference_id, row) > (:at, :start, :id, :row)))
        ORDER BY observed_at, start, inference_id, row LIMIT :limit
    """
    place = {"at": None, "start": None, "id": "", "row": 0}
    if after:
        place = {"at": after.observed_at, "start": after.start, "id": after.inference_id, "row": after.number}
    rows = await session.execute(
        text(select), {"name": name, "version": version, "since": since, "limit": limit} | place
    )
    return [RecordedLabel(r.inference_id, r.row, r.observed_at, r.start, Labelled.from_json(r.counted)) for r in rows]
