"""Files whose rows move: who may do it when, merged files, and files without the rows of somebody."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from ..domain.layout import Kind, Place

_LOCK_NOT_AVAILABLE = "55P03"

MOVING = "recorder.moving"
"""Shared by who reads rows of many files by the index, exclusive for who moves rows."""
FOLDING = "recorder.folding"
"""Shared by batches that are being recorded, exclusive for who must know that none goes on that began before."""

FILING = "recorder.filing"
"""Shared by batches of outcomes that are being written, exclusive for who takes decisions out of the books."""


class InUse(Exception):
    """Somebody works with the files just now; later."""


async def share(session: AsyncSession, what: str) -> None:
    """Until this transaction ends nobody is alone with it; waits for who is."""
    await session.execute(text("SELECT pg_advisory_xact_lock_shared(hashtext(:what))"), {"what": what})


async def share_for_long(connection: AsyncConnection, what: str) -> None:
    """The same until the connection is given back with `give_back`."""
    await connection.execute(text("SELECT pg_advisory_lock_shared(hashtext(:what))"), {"what": what})


async def give_back(connection: AsyncConnection, what: str) -> None:
    await connection.execute(text("SELECT pg_advisory_unlock_shared(hashtext(:what))"), {"what": what})


async def alone(session: AsyncSession, what: str, patience_s: int = 5) -> None:
    """Until this transaction ends nobody else. Raises InUse where it is not free within so many seconds."""
    await session.execute(text(f"SET LOCAL lock_timeout = '{patience_s}s'"))
    try:
        await session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:what))"), {"what": what})
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise InUse(what) from None
        raise
    await session.execute(text("SET LOCAL lock_timeout = 0"))


@dataclass(frozen=True)
class Member:
    """A file as it is now: another `pending` is another content."""

    id: int
    place: Place
    endpoint: str
    unit: str
    folder: str
    rows: int
    earliest: datetime
    latest: datetime

    @classmethod
    def of(cls, r: Any) -> "Member":
        """From its row."""
        place = Place(r.path, r.pending, r.kind)
        return cls(r.id, place, r.endpoint, r.unit, r.folder, r.rows, r.earliest, r.latest)


MEMBER = "file.id, path, pending, kind, file.endpoint, file.unit, folder, file.rows, earliest, latest"


@dataclass(frozen=True)
class Folder:
    """Where files of one kind and unit lie that may be merged with each other."""

    kind: Kind
    folder: str
    unit: str


_OF_FOLDER = "kind = :kind AND folder = :folder AND unit = :unit AND placed"


async def unsettled(session: AsyncSession, before: datetime) -> Folder | None:
    """That of the oldest file that may have others to be merged with and is older than `before`."""
    select = """
        SELECT kind, folder, unit FROM file WHERE NOT settled AND NOT removing AND placed AND latest < :before
        ORDER BY latest LIMIT 1
    """
    row = (await session.execute(text(select), {"before": before})).first()
    return Folder(row.kind, row.folder, row.unit) if row else None


async def small(session: AsyncSession, folder: Folder, below: int, limit: int) -> list[Member]:
    """Files of a folder that have fewer bytes, or nobody knows how many, by their time."""
    select = f"""
        SELECT {MEMBER} FROM file WHERE {_OF_FOLDER} AND NOT removing
            AND COALESCE(bytes, 0) < :below ORDER BY earliest, path LIMIT :limit
    """
    values = vars(folder) | {"below": below, "limit": limit}
    return [Member.of(r) for r in await session.execute(text(select), values)]


async def know_sizes(session: AsyncSession, sizes: dict[int, int]) -> None:
    """How many bytes files have."""
    update = """
        UPDATE file SET bytes = given.bytes FROM unnest(CAST(:ids AS bigint[]), CAST(:bytes AS bigint[]))
            AS given(id, bytes) WHERE file.id = given.id AND file.bytes IS NULL
    """
    await session.execute(text(update), {"ids": list(sizes), "bytes": list(sizes.values())})


async def settle_folder(session: AsyncSession, folder: Folder, before: datetime) -> None:
    """There is nothing to merge in a folder until another file comes."""
    update = f"UPDATE file SET settled = true WHERE {_OF_FOLDER} AND NOT settled AND latest < :before"
    await session.execute(text(update), vars(folder) | {"before": before})


async def set_aside(session: AsyncSession, file: int) -> None:
    """A file that cannot be read is merged with none."""
    update = "UPDATE file SET settled = true, bytes = 9223372036854775807 WHERE id = :id"
    await session.execute(text(update), {"id": file})


async def still(session: AsyncSession, members: Sequence[Member]) -> bool:
    """Whether all of them are as they were when they were read; they are locked then."""
    select = """
        SELECT id, pending FROM file WHERE id = ANY (CAST(:ids AS bigint[])) AND placed AND NOT removing
        ORDER BY id FOR UPDATE
    """
    rows = await session.execute(text(select), {"ids": [each.id for each in members]})
    return {row.id: row.pending for row in rows} == {each.id: each.place.pending for each in members}


async def merge(session: AsyncSession, members: Sequence[Member], into: Place, rows: int, bytes: int) -> None:
    """One file is in place of the members."""
    insert = """
        INSERT INTO file (kind, path, pending, endpoint, unit, rows, bytes, earliest, latest, settled)
        VALUES (:kind, :path, :pending, :endpoint, :unit, :rows, :bytes, :earliest, :latest, true) RETURNING id
    """
    values = {
        "kind": into.kind, "path": into.path, "pending": into.pending, "endpoint": members[0].endpoint,
        "unit": members[0].unit, "rows": rows, "bytes": bytes, "earliest": min(m.earliest for m in members),
        "latest": max(m.latest for m in members),
    }  # fmt: skip
    merged = await session.scalar(text(insert), values)
    ids = {"merged": merged, "ids": [each.id for each in members]}
    for update in (
        "UPDATE segment SET file = :merged WHERE file = ANY (CAST(:ids AS bigint[]))",
        "UPDATE file SET removing = true, replaced_by = :merged WHERE id = ANY (CAST(:ids AS bigint[]))",
    ):
        await session.execute(text(update), ids)


async def rewrite(session: AsyncSession, file: int, pending: str, rows: int, bytes: int) -> None:
    """A file has another content, which waits under a name for its place."""
    update = """
        UPDATE file SET pending = :pending, placed = false, rows = :rows, bytes = :bytes WHERE id = :id
    """
    await session.execute(text(update), {"id": file, "pending": pending, "rows": rows, "bytes": bytes})


async def empty(session: AsyncSession, file: int) -> None:
    """Nothing is left in a file, and nothing in the books is of it: it goes."""
    await session.execute(text("DELETE FROM segment WHERE file = :id"), {"id": file})
    await session.execute(text("UPDATE file SET removing = true WHERE id = :id"), {"id": file})
