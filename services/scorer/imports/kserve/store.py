"""All SQL of KServe's halves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True)
class Pair:
    """What came of an inference so far."""

    version: int
    request: bytes | None
    request_at: datetime | None
    response: bytes | None
    response_at: datetime | None


@dataclass(frozen=True)
class Figures:
    """How the halves of an endpoint fared."""

    joined: int = 0
    repeated: int = 0
    """Halves of inferences that were whole already."""
    lone_requests: int = 0
    lone_responses: int = 0
    """Halves that were given up, since the other one never came."""
    waiting: int = 0
    oldest: datetime | None = None
    """Since when the oldest of those waits."""


_KEEP = """
    INSERT INTO kserve_half AS known (endpoint, inference_id, unit, version, {side}, {side}_at)
    VALUES (:endpoint, :id, :unit, :version, :half, :at)
    ON CONFLICT (endpoint, inference_id) DO UPDATE SET {side} = coalesce(known.{side}, excluded.{side}),
        {side}_at = coalesce(known.{side}_at, excluded.{side}_at)
    RETURNING version, request, request_at, response, response_at
"""
_KEEP_REQUEST, _KEEP_RESPONSE = (text(_KEEP.format(side=side)) for side in ("request", "response"))


async def keep(
    session: AsyncSession, endpoint: str, id: str, unit: str, version: int, side: str, half: bytes, at: datetime
) -> Pair:  # fmt: skip
    """Keep a half beside the other one, the first of its kind only; answers what there is now. Others of the same
    inference wait until this transaction ends."""
    values = {"endpoint": endpoint, "id": id, "unit": unit, "version": version, "half": half, "at": at}
    row = (await session.execute(_KEEP_REQUEST if side == "request" else _KEEP_RESPONSE, values)).one()
    return Pair(row.version, row.request, row.request_at, row.response, row.response_at)


async def is_waiting(session: AsyncSession, endpoint: str, id: str) -> bool:
    """Whether a half of the inference is there."""
    select = "SELECT EXISTS (SELECT 1 FROM kserve_half WHERE endpoint = :e AND inference_id = :id)"
    return bool(await session.scalar(text(select), {"e": endpoint, "id": id}))


async def drop(session: AsyncSession, endpoint: str, id: str) -> None:
    """Its halves are of no use any more."""
    delete = "DELETE FROM kserve_half WHERE endpoint = :e AND inference_id = :id"
    await session.execute(text(delete), {"e": endpoint, "id": id})


async def count(session: AsyncSession, endpoint: str, unit: str, what: str, number: int = 1) -> None:
    """Count more of what `Figures` calls it."""
    insert = f"""
        INSERT INTO kserve_count AS known (endpoint, unit, {what}) VALUES (:e, :u, :n)
        ON CONFLICT (endpoint) DO UPDATE SET {what} = known.{what} + excluded.{what}
    """
    await session.execute(text(insert), {"e": endpoint, "u": unit, "n": number})


async def make_ready(session: AsyncSession, unit: str, record: bytes) -> int:
    """Put a record in line for the log; answers its number. To be a transaction's last statements."""
    number = await session.scalar(text("UPDATE kserve_number SET number = number + 1 RETURNING number"))
    insert = "INSERT INTO kserve_ready (number, unit, record) VALUES (:n, :u, :r)"
    await session.execute(text(insert), {"n": number, "u": unit, "r": record})
    return int(number or 0)


async def ready(session: AsyncSession, limit: int) -> tuple[str, list[tuple[int, bytes]]]:
    """The name of who writes, and the records in line by their numbers; nothing while another worker sends them."""
    mine = "SELECT pg_try_advisory_xact_lock(hashtextextended('kserve', 9))"
    if not await session.scalar(text(mine)):
        return "", []
    writer = str(await session.scalar(text("SELECT writer FROM kserve_number")))
    select = "SELECT number, record FROM kserve_ready ORDER BY number LIMIT :limit"
    rows = await session.execute(text(select), {"limit": limit})
    return writer, [(row.number, row.record) for row in rows]


async def sent(session: AsyncSession, numbers: Sequence[int]) -> None:
    """The log has these."""
    delete = "DELETE FROM kserve_ready WHERE number = ANY (CAST(:numbers AS bigint[]))"
    await session.execute(text(delete), {"numbers": list(numbers)})


async def give_up(session: AsyncSession, after: timedelta) -> list[tuple[str, str, str, int]]:
    """Drop halves that waited so long: by endpoint and unit, what `Figures` calls them, and how many there were."""
    delete = """
        WITH gone AS (
            DELETE FROM kserve_half WHERE came_at < now() - CAST(:after AS interval)
            RETURNING endpoint, unit, CASE WHEN request IS NULL THEN 'lone_responses' ELSE 'lone_requests' END AS what
        )
        SELECT endpoint, unit, what, count(*) AS halves FROM gone GROUP BY endpoint, unit, what
    """
    return [(r.endpoint, r.unit, r.what, r.halves) for r in await session.execute(text(delete), {"after": after})]


async def crowded(session: AsyncSession, halves: int, size_bytes: int) -> frozenset[str]:
    """Endpoints of which as many halves wait as may, or as large ones. A length is known without reading the half."""
    select = """
        SELECT endpoint FROM kserve_half GROUP BY endpoint
        HAVING count(*) >= :n OR sum(coalesce(octet_length(request), 0) + coalesce(octet_length(response), 0)) >= :b
    """
    return frozenset(await session.scalars(text(select), {"n": halves, "b": size_bytes}))


async def figures(session: AsyncSession, endpoint: str) -> Figures:
    """Of an endpoint."""
    select = "SELECT joined, repeated, lone_requests, lone_responses FROM kserve_count WHERE endpoint = :e"
    known = (await session.execute(text(select), {"e": endpoint})).first()
    waiting = "SELECT count(*) AS waiting, min(came_at) AS oldest FROM kserve_half WHERE endpoint = :e"
    now = (await session.execute(text(waiting), {"e": endpoint})).one()
    counts = tuple(known) if known else (0, 0, 0, 0)
    return Figures(*counts, waiting=now.waiting, oldest=now.oldest)
