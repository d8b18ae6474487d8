"""SQL of two versions on the same requests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, Self, TypeVar

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.comparison.answers import Answers
from ..domain.comparison.verdicts import Verdicts
from ..domain.outcomes.tally import packed, unpacked


@dataclass(frozen=True)
class Pairing:
    """A window of what one variant would have decided, and which version it is held against."""

    endpoint: str
    version: int
    variant: str
    against: int
    """The version that callers were told of."""
    unit: str = field(compare=False)
    start: datetime
    end: datetime


class Merging(Protocol):
    """Counts of either kind."""

    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self: ...


M = TypeVar("M", bound=Merging)
Source = Literal["answers", "outcomes"]
_KINDS: Mapping[type[Merging], Source] = {Answers: "answers", Verdicts: "outcomes"}
_PAIRING = 'endpoint, version, variant, against, unit, start, "end"'
_FIND = text(f"""
    SELECT data, {_PAIRING} FROM comparison
    JOIN jsonb_to_recordset(CAST(:given AS jsonb)) AS asked(
        endpoint text, version int, variant text, against int, start timestamptz, "end" timestamptz)
    USING (endpoint, version, variant, against, start, "end") WHERE source = :source AND partition = :partition
""")
_SAVE = text("""
    INSERT INTO comparison (endpoint, version, variant, against, start, "end", source, partition, unit, data)
    VALUES (:endpoint, :version, :variant, :against, :start, :end, :source, :partition, :unit, :data)
    ON CONFLICT (endpoint, version, variant, against, start, "end", source, partition) DO UPDATE SET
        unit = excluded.unit, data = excluded.data
""")


async def known(
    session: AsyncSession, kind: type[M], pairings: Iterable[Pairing], partition: int
) -> dict[Pairing, M]:  # fmt: skip
    """What a partition of a stream knows of some windows."""
    given = orjson.dumps([_columns(each) for each in pairings]).decode()
    rows = await session.execute(_FIND, {"given": given, "source": _KINDS[kind], "partition": partition})
    return {_pairing(row): kind.from_json(unpacked(row.data)) for row in rows}


async def save(session: AsyncSession, found: Mapping[Pairing, Merging], partition: int) -> None:
    """In place of what the partition knew of these windows."""
    for pairing, counts in found.items():
        values = {"source": _KINDS[type(counts)], "partition": partition, "data": packed(counts.to_json())}
        await session.execute(_SAVE, _columns(pairing) | values)


async def windows(
    session: AsyncSession, name: str, since: datetime, until: datetime
) -> list[tuple[Pairing, Answers | Verdicts]]:
    """What all partitions know of the windows that begin in a span of time, the newest first."""
    select = f"""
        SELECT source, data, {_PAIRING} FROM comparison
        WHERE endpoint = :e AND start >= :since AND start < :until ORDER BY start DESC, "end", version DESC, variant
    """
    rows = await session.execute(text(select), {"e": name, "since": since, "until": until})
    return [
        (_pairing(row), (Answers if row.source == "answers" else Verdicts).from_json(unpacked(row.data)))
        for row in rows
    ]


async def tidy(session: AsyncSession, kept: timedelta) -> None:
    """Forget old windows."""
    await session.execute(text("DELETE FROM comparison WHERE start < now() - CAST(:kept AS interval)"), {"kept": kept})


def _columns(pairing: Pairing) -> dict[str, Any]:
    return {
        "endpoint": pairing.endpoint, "version": pairing.version, "variant": pairing.variant,
        "against": pairing.against, "unit": pairing.unit, "start": pairing.start, "end": pairing.end,
    }  # fmt: skip


def _pairing(row: Any) -> Pairing:
    return Pairing(row.endpoint, row.version, row.variant, row.against, row.unit, row.start, row.end)
