"""What lies on the disk, and the index of the decisions in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.layout import Head, Kind, Place
from .seeking import wake


@dataclass(frozen=True)
class Batched:
    """A file of one batch: its place, and which offsets are in it."""

    path: str
    endpoint: str
    unit: str
    partition: int
    first: int
    last: int
    rows: int


@dataclass(frozen=True)
class NewFile(Batched):
    """A file of a batch's decisions."""

    heads: tuple[Head, ...]
    bytes: int | None = None
    unsampled: frozenset[str] = frozenset()
    """Inferences without a logged payload."""
    payloads: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """By inference the objects that hold a payload which was too large for the log."""


_ADD_FILE = text("""
    INSERT INTO file (kind, path, endpoint, unit, partition, first_offset, last_offset, rows, bytes, earliest, latest)
    VALUES (:kind, :path, :endpoint, :unit, :partition, :first, :last, :rows, :bytes, :earliest, :latest) RETURNING id
""")
_ADD_SEGMENT = text("INSERT INTO segment (id, unit, file) VALUES (:id, :unit, :id)")
_ADD_DECISIONS = text("""
    INSERT INTO decision (inference_id, unit, endpoint, use_case, model, version, mode, application, entity, rows,
                          received_at, shadow_of, variant, instead_of, sampled, segment)
    SELECT given.*, :segment FROM unnest(
        CAST(:inference_id AS text[]), CAST(:unit AS text[]), CAST(:endpoint AS text[]), CAST(:use_case AS text[]),
        CAST(:model AS text[]), CAST(:version AS int[]), CAST(:mode AS text[]), CAST(:application AS text[]),
        CAST(:entity AS text[]), CAST(:rows AS int[]), CAST(:received_at AS timestamptz[]),
        CAST(:shadow_of AS text[]), CAST(:variant AS text[]), CAST(:instead_of AS text[]), CAST(:sampled AS boolean[])
    ) AS given
""")
_ADD_PAYLOADS = text("""
    INSERT INTO payload (inference_id, digest, unit)
    SELECT given.*, :unit FROM unnest(CAST(:ids AS text[]), CAST(:digests AS text[])) AS given ON CONFLICT DO NOTHING
""")
INDEXED = (
    "inference_id", "unit", "endpoint", "use_case", "model", "version", "mode", "application", "entity", "rows",
    "received_at", "shadow_of", "variant", "instead_of",
)  # fmt: skip


async def add_segment(
    session: AsyncSession, kind: Kind, new: Batched, bytes: int | None, times: Sequence[datetime]
) -> int:
    """A file's row and the first segment of it, under the same number; `times` say of which hour the file is."""
    values = {
        "kind": kind, "path": new.path, "endpoint": new.endpoint, "unit": new.unit, "partition": new.partition,
        "first": new.first, "last": new.last, "rows": new.rows, "bytes": bytes, "earliest": min(times),
        "latest": max(times),
    }  # fmt: skip
    file = (await session.execute(_ADD_FILE, values)).scalar_one()
    await session.execute(_ADD_SEGMENT, {"id": file, "unit": new.unit})
    return file


async def add_file(session: AsyncSession, new: NewFile) -> None:
    """A file of decisions, and the index of them."""
    file = await add_segment(session, "inferences", new, new.bytes, [head.received_at for head in new.heads])
    columns = {name: [getattr(head, name) for head in new.heads] for name in INDEXED}
    columns["sampled"] = [head.inference_id not in new.unsampled for head in new.heads]
    await session.execute(_ADD_DECISIONS, columns | {"segment": file})
    await wake(session, columns["inference_id"])
    if pairs := [(id, digest) for id, digests in new.payloads.items() for digest in digests]:
        ids, digests = zip(*pairs, strict=True)
        await session.execute(_ADD_PAYLOADS, {"ids": [*ids], "digests": [*digests], "unit": new.unit})


async def already_there(session: AsyncSession, ids: Sequence[str]) -> set[str]:
    """Which of these inferences were recorded before."""
    select = "SELECT inference_id FROM decision WHERE inference_id = ANY (CAST(:ids AS text[]))"
    return set(await session.scalars(text(select), {"ids": list(ids)}))


@dataclass(frozen=True)
class Waiting:
    """A committed file that is not in its place yet, and the files whose place it takes in its folder."""

    id: int
    place: Place
    rows: int
    members: tuple[str, ...]


async def unplaced(session: AsyncSession) -> list[Waiting]:
    """Files that committed and are not in their places yet."""
    select = """
        SELECT id, path, pending, kind, rows, ARRAY(SELECT path FROM file AS m WHERE m.replaced_by = file.id) AS members
        FROM file WHERE NOT placed AND NOT removing ORDER BY id
    """
    rows = await session.execute(text(select))
    return [Waiting(r.id, Place(r.path, r.pending, r.kind), r.rows, tuple(r.members)) for r in rows]


async def unfollowed(session: AsyncSession, limit: int = 3) -> list[str]:
    """Some files of which rows left that the disk may still have: the newest content waits, or the whole file goes."""
    select = """
        (SELECT path FROM file WHERE NOT placed AND NOT removing AND pending IS NOT NULL LIMIT :limit)
        UNION (SELECT path FROM file WHERE removing LIMIT :limit) LIMIT :limit
    """
    return list(await session.scalars(text(select), {"limit": limit}))


async def mark_placed(session: AsyncSession, placed: Sequence[Waiting]) -> None:
    """These files are in their places, unless they were rewritten meanwhile; those that they replace are gone."""
    mark = """
        WITH placed AS (
            UPDATE file SET placed = true FROM unnest(CAST(:ids AS bigint[]), CAST(:names AS text[])) AS given(id, name)
            WHERE file.id = given.id AND file.pending IS NOT DISTINCT FROM given.name RETURNING file.id
        )
        DELETE FROM file USING placed WHERE file.replaced_by = placed.id AND file.removing
    """
    values = {"ids": [each.id for each in placed], "names": [each.place.pending for each in placed]}
    await session.execute(text(mark), values)


async def places(session: AsyncSession, files: Sequence[int]) -> dict[int, Place]:
    """Of some files, by their ids; an id that is not known is left out."""
    select = "SELECT id, path, pending, kind FROM file WHERE id = ANY (CAST(:ids AS bigint[]))"
    rows = await session.execute(text(select), {"ids": list(files)})
    return {row.id: Place(row.path, row.pending, row.kind) for row in rows}


async def forget(session: AsyncSession, kept: timedelta, limit: int = 1_000) -> int:
    """Mark files of decisions that are too old as to be removed, and delete their decisions and outcomes.

    Answers how many files. Rows of outcomes leave their files later. The caller is alone with FILING.
    """
    # Without the cast PostgreSQL takes what is subtracted from a moment for a moment, and compares an interval.
    mark = """
        UPDATE file SET removing = true WHERE id IN (
            SELECT id FROM file WHERE latest < now() - CAST(:kept AS interval) AND NOT removing AND kind = 'inferences'
            ORDER BY latest LIMIT :limit FOR UPDATE
        ) RETURNING id
    """
    gone = list(await session.scalars(text(mark), {"kept": kept, "limit": limit}))
    decisions = """
        WITH segments AS (DELETE FROM segment WHERE file = ANY (CAST(:ids AS bigint[])) RETURNING id),
        gone AS (DELETE FROM decision USING segments WHERE decision.segment = segments.id RETURNING inference_id),
        payloads AS (DELETE FROM payload USING gone WHERE payload.inference_id = gone.inference_id RETURNING digest),
        objects AS (INSERT INTO doomed SELECT DISTINCT digest FROM payloads ON CONFLICT DO NOTHING),
        written AS (UPDATE observation SET due = now() + interval '1 day' FROM gone
                    WHERE observation.inference_id = gone.inference_id)
        DELETE FROM outcome USING gone WHERE outcome.inference_id = gone.inference_id
    """
    if gone:
        await session.execute(text(decisions), {"ids": gone})
    return len(gone)


async def removing(session: AsyncSession, limit: int = 1_000) -> list[tuple[int, Place]]:
    """Files that are out of the books and perhaps still on the disk; not those that a merged file will replace."""
    select = """
        SELECT id, path, pending, kind FROM file WHERE removing AND NOT EXISTS (
            SELECT FROM file AS merged WHERE merged.id = file.replaced_by AND NOT merged.removing)
        LIMIT :limit
    """
    rows = await session.execute(text(select), {"limit": limit})
    return [(row.id, Place(row.path, row.pending, row.kind)) for row in rows]


async def drop(session: AsyncSession, file: int) -> None:
    """A file that is to be removed is off the disk."""
    await session.execute(text("DELETE FROM file WHERE id = :id AND removing"), {"id": file})


async def doomed(session: AsyncSession, limit: int = 1_000) -> list[str]:
    """Objects that held payloads of what is gone; the same bytes may be another inference's that stays."""
    return list(await session.scalars(text("SELECT digest FROM doomed LIMIT :limit"), {"limit": limit}))


async def is_referred_to(session: AsyncSession, digest: str) -> bool:
    """Whether a decision that stays has its payload in this object."""
    return bool(await session.scalar(text("SELECT count(*) FROM payload WHERE digest = :d"), {"d": digest}))


async def doom(session: AsyncSession, digests: Sequence[str]) -> None:
    """Payloads of what is not recorded at all."""
    insert = "INSERT INTO doomed SELECT DISTINCT unnest(CAST(:d AS text[])) ON CONFLICT DO NOTHING"
    if digests:
        await session.execute(text(insert), {"d": list(digests)})


async def undoom(session: AsyncSession, digest: str) -> None:
    """It is removed, or stays."""
    await session.execute(text("DELETE FROM doomed WHERE digest = :d"), {"d": digest})
