"""The ledger's rows: appended in order under one lock, never changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import AuditRecorded
from services.governor.domain.chain import GENESIS, Link

_LISTED = "position, hash, content, service, number, unit, action, subject, actor, at, correlation_id"


@dataclass(frozen=True)
class Head:
    """Where the ledger ends, and up to where it is sealed."""

    position: int
    hash: str
    sealed: int


@dataclass(frozen=True)
class Entry:
    """A record as it is listed."""

    position: int
    hash: str
    content: bytes
    service: str
    number: int
    unit: str
    action: str
    subject: str
    actor: str
    at: datetime
    correlation_id: str


async def hold_head(session: AsyncSession) -> Head:
    """The ledger's end, held until the transaction ends: one appends at a time."""
    first = "INSERT INTO ledger_head (position, hash) VALUES (0, :genesis) ON CONFLICT DO NOTHING"
    await session.execute(text(first), {"genesis": GENESIS})
    return await _head(session, "FOR UPDATE")


async def head(session: AsyncSession) -> Head:
    """The ledger's end, as it is now."""
    return await _head(session, "")


async def _head(session: AsyncSession, lock: str) -> Head:
    found = await session.execute(text(f"SELECT position, hash, sealed FROM ledger_head {lock}"))
    row = found.mappings().first()
    return Head(**row) if row else Head(0, GENESIS, 0)


async def last_numbers(session: AsyncSession) -> dict[str, int]:
    """Up to which number the ledger holds each service's rows."""
    found = await session.execute(text("SELECT service, number FROM ledger_writer"))
    return {row.service: row.number for row in found}


async def stored(session: AsyncSession, service: str, numbers: Iterable[int]) -> dict[int, bytes]:
    """What the ledger holds under these numbers of a service."""
    select = "SELECT number, content FROM ledger_record WHERE service = :service AND number = ANY (:numbers)"
    found = await session.execute(text(select), {"service": service, "numbers": sorted(numbers)})
    return {row.number: row.content for row in found}


async def waiting(session: AsyncSession, service: str) -> dict[int, bytes]:
    """The rows of a service behind a gap, by number."""
    select = "SELECT number, content FROM ledger_waiting WHERE service = :service"
    return {row.number: row.content for row in await session.execute(text(select), {"service": service})}


async def append(session: AsyncSession, links: list[Link], rows: list[AuditRecorded]) -> None:
    """Write records in their places and move the end and the services' numbers."""
    insert = f"""
        INSERT INTO ledger_record ({_LISTED})
        SELECT * FROM unnest(
            CAST(:position AS bigint[]), CAST(:hash AS text[]), CAST(:content AS bytea[]), CAST(:service AS text[]),
            CAST(:number AS bigint[]), CAST(:unit AS text[]), CAST(:action AS text[]), CAST(:subject AS text[]),
            CAST(:actor AS text[]), CAST(:at AS timestamptz[]), CAST(:correlation_id AS text[]))
    """
    told = ("service", "number", "unit", "action", "subject", "actor", "at", "correlation_id")
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in told}
    columns |= {name: [getattr(link, name) for link in links] for name in ("position", "hash", "content")}
    await session.execute(text(insert), columns)
    await session.execute(
        text("UPDATE ledger_head SET position = :position, hash = :hash"),
        {"position": links[-1].position, "hash": links[-1].hash},
    )


async def move_writer(session: AsyncSession, service: str, number: int) -> None:
    """Everything up to this number of a service is in the ledger."""
    upsert = """
        INSERT INTO ledger_writer (service, number) VALUES (:service, :number)
        ON CONFLICT (service) DO UPDATE SET number = excluded.number
    """
    row = {"service": service, "number": number}
    await session.execute(text(upsert), row)
    await session.execute(text("DELETE FROM ledger_waiting WHERE service = :service AND number <= :number"), row)


async def park(session: AsyncSession, service: str, rows: Mapping[int, bytes]) -> None:
    """Keep rows that wait for a number before them."""
    insert = """
        INSERT INTO ledger_waiting (service, number, content)
        SELECT :service, * FROM unnest(CAST(:numbers AS bigint[]), CAST(:contents AS bytea[])) ON CONFLICT DO NOTHING
    """
    row = {"service": service, "numbers": list(rows), "contents": list(rows.values())}
    await session.execute(text(insert), row)


async def dispute(session: AsyncSession, service: str, number: int, content: bytes) -> bool:
    """Keep a second row that came under a number of the ledger; answers whether it is new."""
    insert = """
        INSERT INTO ledger_dispute (service, number, content) VALUES (:service, :number, :content)
        ON CONFLICT DO NOTHING RETURNING 1
    """
    row = {"service": service, "number": number, "content": content}
    return (await session.execute(text(insert), row)).first() is not None


async def gaps(session: AsyncSession, older_than_s: float) -> list[tuple[str, int, int]]:
    """Services with rows that have waited for long, untold: service, the missing number, how many wait."""
    select = """
        SELECT w.service, coalesce(max(l.number), 0) + 1 AS missing, count(*) AS rows
        FROM ledger_waiting w LEFT JOIN ledger_writer l USING (service)
        WHERE NOT coalesce(l.gap_told, false)
        GROUP BY w.service HAVING min(w.since) < now() - make_interval(secs => :age)
    """
    return [(r.service, r.missing, r.rows) for r in await session.execute(text(select), {"age": older_than_s})]


async def closed_gaps(session: AsyncSession) -> list[str]:
    """Services whose gap was told and is no more."""
    select = """
        SELECT service FROM ledger_writer l
        WHERE gap_told AND NOT EXISTS (SELECT 1 FROM ledger_waiting w WHERE w.service = l.service)
    """
    return list((await session.scalars(text(select))).all())


async def tell_gap(session: AsyncSession, service: str, told: bool) -> None:
    """Remember whether a gap of a service was told."""
    upsert = """
        INSERT INTO ledger_writer (service, number, gap_told) VALUES (:service, 0, :told)
        ON CONFLICT (service) DO UPDATE SET gap_told = :told
    """
    await session.execute(text(upsert), {"service": service, "told": told})


async def unsealed(session: AsyncSession, after: int) -> tuple[int, float] | None:
    """How many records wait for a seal and since when (seconds); none where only seals were recorded."""
    select = """
        SELECT count(*) AS rows, extract(epoch FROM now() - min(at)) AS age FROM ledger_record
        WHERE position > :after AND action <> 'audit.sealed'
    """
    row = (await session.execute(text(select), {"after": after})).one()
    return (row.rows, float(row.age)) if row.rows else None


async def seal(session: AsyncSession, document: dict[str, Any], sealed_at: datetime) -> None:
    """Keep a checkpoint and mark the ledger as sealed up to it."""
    insert = """
        INSERT INTO ledger_checkpoint (position, head, sealed_at, document)
        VALUES (:position, :head, :sealed_at, CAST(:document AS jsonb))
    """
    row = {"position": document["position"], "head": document["head"], "sealed_at": sealed_at}
    await session.execute(text(insert), row | {"document": orjson.dumps(document).decode()})
    await session.execute(text("UPDATE ledger_head SET sealed = :position"), {"position": document["position"]})


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as the database keeps it: its signed document beside the columns that repeat it."""

    position: int
    head: str
    sealed_at: datetime
    document: dict[str, Any]


async def checkpoints(session: AsyncSession, after: int, limit: int, *, leaves: bool = False) -> list[Checkpoint]:
    """Checkpoints beyond a position, in order; without the hashes of what they seal unless they are asked for."""
    document = "document" if leaves else "document - 'leaves'"
    select = f"""
        SELECT position, head, sealed_at, {document} AS document FROM ledger_checkpoint
        WHERE position > :after ORDER BY position LIMIT :limit
    """
    found = await session.execute(text(select), {"after": after, "limit": limit})
    return [Checkpoint(**row) for row in found.mappings()]


async def last_checkpoint(session: AsyncSession) -> int:
    """The position of the newest checkpoint in the database; 0 where there is none."""
    return (await session.scalars(text("SELECT coalesce(max(position), 0) FROM ledger_checkpoint"))).one()


async def hash_at(session: AsyncSession, position: int) -> str | None:
    """The hash of the record at a position; None where there is none."""
    select = "SELECT hash FROM ledger_record WHERE position = :position"
    return (await session.scalars(text(select), {"position": position})).first()


async def chunk(session: AsyncSession, after: int, limit: int) -> list[Entry]:
    """The next records in order of position."""
    select = f"SELECT {_LISTED} FROM ledger_record WHERE position > :after ORDER BY position LIMIT :limit"
    return [Entry(**r) for r in (await session.execute(text(select), {"after": after, "limit": limit})).mappings()]


async def page(
    session: AsyncSession,
    *,
    subject: str | None,
    actor: str | None,
    action: str | None,
    service: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    before: int | None,
) -> list[Entry]:
    """Newest first."""
    select = f"""
        SELECT {_LISTED} FROM ledger_record
        WHERE (CAST(:subject AS text) IS NULL OR subject = :subject)
          AND (CAST(:actor AS text) IS NULL OR actor = :actor)
          AND (CAST(:action AS text) IS NULL OR action = :action)
          AND (CAST(:service AS text) IS NULL OR service = :service)
          AND (CAST(:since AS timestamptz) IS NULL OR at >= :since)
          AND (CAST(:until AS timestamptz) IS NULL OR at < :until)
          AND (CAST(:before AS bigint) IS NULL OR position < :before)
        ORDER BY position DESC LIMIT :limit
    """
    row = {"subject": subject, "actor": actor, "action": action, "service": service, "since": since, "until": until}
    found = await session.execute(text(select), row | {"before": before, "limit": limit})
    return [Entry(**r) for r in found.mappings()]


async def history(session: AsyncSession, model: str, after: int, limit: int) -> list[Entry]:
    """What the ledger holds of a model behind a position: its own rows, and those of stories that asked for it."""
    select = f"""
        SELECT {_LISTED} FROM ledger_record
        WHERE position > :after AND (correlation_id IN (
                SELECT correlation_id FROM ledger_record WHERE subject = :model AND action LIKE 'model.%'
                UNION SELECT correlation_id FROM process WHERE model = :model)
           OR (subject = :model AND (action LIKE 'model.%' OR action LIKE 'retraining.%')))
        ORDER BY position LIMIT :limit
    """
    found = await session.execute(text(select), {"model": model, "after": after, "limit": limit})
    return [Entry(**row) for row in found.mappings()]
