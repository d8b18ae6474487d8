"""The index of what lies in files of outcomes: what was written last of a row, and which rows are to leave."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.observed import Newest, Observation, Place
from .files import Batched, add_segment
from .rewriting import MEMBER, Member

_AT_ONCE = 200_000
"""Inferences that leave a file in one step: they are in memory."""

_ADD = text("""
    INSERT INTO observation (inference_id, "row", revision, said, observed_at, unit, segment)
    SELECT given.*, :unit, :segment FROM unnest(
        CAST(:ids AS text[]), CAST(:rows AS int[]), CAST(:revisions AS int[]), CAST(:said AS uuid[]),
        CAST(:times AS timestamptz[])
    ) AS given
""")


@dataclass(frozen=True)
class NewOutcomes(Batched):
    """A file of a batch's outcomes."""

    bytes: int
    observations: tuple[Observation, ...]


async def add_outcomes(session: AsyncSession, new: NewOutcomes) -> None:
    """A file of outcomes, and the index of them."""
    newest = [each.newest for each in new.observations]
    times = [each.observed_at for each in newest]
    values = {
        "unit": new.unit, "segment": await add_segment(session, "outcomes", new, new.bytes, times),
        "ids": [each.event.inference_id for each in new.observations],
        "rows": [each.event.row for each in new.observations], "revisions": [each.revision for each in newest],
        "said": [each.said for each in newest], "times": times,
    }  # fmt: skip
    await session.execute(_ADD, values)


async def newest_written(session: AsyncSession, places: Iterable[Place]) -> dict[Place, Newest]:
    """What was written last of some rows of inferences; those of which nothing was are not among them."""
    select = """
        SELECT last.* FROM unnest(CAST(:ids AS text[]), CAST(:rows AS int[])) AS given(id, "row")
        CROSS JOIN LATERAL (
            SELECT * FROM observation AS o WHERE o.inference_id = given.id AND o."row" = given."row"
            ORDER BY revision DESC LIMIT 1
        ) AS last
    """
    wanted = list(places)
    values = {"ids": [id for id, _ in wanted], "rows": [row for _, row in wanted]}
    found = await session.execute(text(select), values)
    return {(r.inference_id, r.row): Newest(r.revision, str(r.said), r.observed_at) for r in found}


async def next_leaving(session: AsyncSession, without: Sequence[int]) -> Member | None:
    """A file in its place with rows that are due to leave it."""
    select = f"""
        SELECT {MEMBER} FROM observation JOIN segment ON segment.id = observation.segment
        JOIN file ON file.id = segment.file
        WHERE due <= now() AND placed AND NOT removing AND file.id <> ALL (CAST(:without AS bigint[])) LIMIT 1
    """
    row = (await session.execute(text(select), {"without": list(without)})).first()
    return Member.of(row) if row else None


async def leaving(session: AsyncSession, file: int) -> list[str]:
    """The inferences whose rows leave a file of outcomes, those of later too: some of them, where they are many."""
    select = """
        SELECT DISTINCT inference_id FROM observation JOIN segment ON segment.id = observation.segment
        WHERE segment.file = :file AND due IS NOT NULL LIMIT :limit
    """
    return list(await session.scalars(text(select), {"file": file, "limit": _AT_ONCE}))


async def hasten(session: AsyncSession) -> None:
    """What is to leave its file later is due now: whose it is no book knows. The caller is alone with FILING."""
    await session.execute(text("UPDATE observation SET due = now() WHERE due > now()"))


async def withdraw(session: AsyncSession, file: int, ids: Sequence[str] | None) -> None:
    """Rows of some inferences, None for all, are in a file of outcomes no more; erasures that took them count it."""
    delete = """
        WITH gone AS (
            DELETE FROM observation USING segment WHERE segment.file = :file AND observation.segment = segment.id
                AND (CAST(:ids AS text[]) IS NULL OR inference_id = ANY (CAST(:ids AS text[])))
            RETURNING inference_id
        )
        UPDATE erasure SET files = files + 1 WHERE id IN (SELECT erasure FROM erased JOIN gone USING (inference_id))
    """
    await session.execute(text(delete), {"file": file, "ids": None if ids is None else list(ids)})
