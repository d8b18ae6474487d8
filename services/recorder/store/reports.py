"""Outcomes: as they were reported, and as they were observed of a decision."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.outcomes import Known, Report

# A report of one part keeps the other part of what stands. While nothing stands, only of the same units' word: what
# somebody else says of an inference that has not come yet is not mixed into it.
_KEEPS = "(known.unit <> '*' OR (known.state = 'waiting' AND known.units IS NOT DISTINCT FROM {new}.units))"
_SAYS = (
    f"CASE WHEN {_KEEPS} THEN COALESCE({{new}}.label, known.label) ELSE {{new}}.label END, "
    f"CASE WHEN {_KEEPS} THEN COALESCE({{new}}.value, known.value) ELSE {{new}}.value END"
)

_REPORT = text(f"""
    WITH given AS (
        SELECT inference_id, "row", label, value, reported_by, partition, "offset",
               CASE WHEN units IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(units)) END AS units
        FROM jsonb_to_recordset(CAST(:reports AS jsonb)) AS given(
            inference_id text, "row" integer, label jsonb, value double precision, units jsonb, reported_by text,
            partition integer, "offset" bigint)
    ), kept AS (
        INSERT INTO outcome AS known (inference_id, "row", label, value, units, reported_by, state, partition, "offset")
        SELECT inference_id, "row", label, value, units, reported_by, 'waiting', partition, "offset" FROM given
        -- In one order for all writers: two that report the same rows would wait for each other.
        ORDER BY inference_id, "row"
        ON CONFLICT (inference_id, "row") DO UPDATE SET (label, value) = ROW({_SAYS.format(new="excluded")}),
            units = excluded.units, reported_by = excluded.reported_by, state = 'waiting', reason = NULL,
            partition = excluded.partition, "offset" = excluded."offset", reported_at = now(),
            seek_at = NULL, sought = 0
        WHERE (known.state = 'expired' OR (known.label, known.value) IS DISTINCT FROM ({_SAYS.format(new="excluded")}))
            AND (known.unit = '*' OR excluded.units IS NULL OR excluded.units && ARRAY['*', known.unit])
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM kept) AS new,
           (SELECT count(*) FROM given JOIN outcome AS known USING (inference_id, "row")
            WHERE known.state <> 'expired'
                AND (known.label, known.value) IS NOT DISTINCT FROM ({_SAYS.format(new="given")})) AS repeated
""")


@dataclass(frozen=True)
class Kept:
    """What became of reported outcomes; those that are counted nowhere were overtaken by a later one of their batch."""

    new: int
    repeated: int
    """They say what is known already."""
    withheld: int
    """Another business unit's: what it knows stands."""


async def report(session: AsyncSession, reports: Sequence[Report]) -> Kept:
    """Keep outcomes until they meet their inferences. Of a row the last label and the last value count."""
    last: dict[tuple[str, int], Report] = {}
    repeated = 0
    for each in reports:
        before = last.get((each.inference_id, each.row))
        after = each.after(before) if before else each
        if before and before.says_as(after):
            repeated += 1
        else:
            last[each.inference_id, each.row] = after
    if not last:
        return Kept(0, repeated, 0)
    row = (await session.execute(_REPORT, {"reports": _json(last.values())})).one()
    return Kept(row.new, repeated + row.repeated, len(last) - row.new - row.repeated)


async def reopen(session: AsyncSession, replayed: Sequence[Report]) -> None:
    """Refused outcomes that are given out again wait once more: what was against them may be mended."""
    update = """
        UPDATE outcome AS known SET state = 'waiting', reason = NULL, partition = given.partition,
            "offset" = given."offset", reported_at = now(), seek_at = NULL, sought = 0
        FROM jsonb_to_recordset(CAST(:reports AS jsonb)) AS given(
            inference_id text, "row" integer, partition integer, "offset" bigint)
        WHERE known.inference_id = given.inference_id AND known."row" = given."row" AND known.state = 'refused'
    """
    if replayed:
        await session.execute(text(update), {"reports": _json(replayed)})


def _json(reports: Iterable[Report]) -> str:
    return orjson.dumps(
        [vars(each) | {"units": None if each.units is None else sorted(each.units)} for each in reports]
    ).decode()


async def sizes(session: AsyncSession, ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Unit and number of rows of the inferences that are recorded."""
    select = "SELECT inference_id, unit, rows FROM decision WHERE inference_id = ANY (CAST(:ids AS text[]))"
    return {r.inference_id: (r.unit, r.rows) for r in await session.execute(text(select), {"ids": list(ids)})}


async def settle(session: AsyncSession, known: Sequence[Known], refusals: Sequence[str | None], at: datetime) -> None:
    """Observed outcomes get their inference's unit and endpoint; refused ones their reason."""
    update = """
        UPDATE outcome SET unit = given.unit, endpoint = given.endpoint, reason = given.reason, observed_at = :at,
            decided_at = (SELECT received_at FROM decision WHERE decision.inference_id = given.id),
            state = CASE WHEN given.reason IS NULL THEN 'observed' ELSE 'refused' END
        FROM unnest(CAST(:ids AS text[]), CAST(:rows AS int[]), CAST(:units AS text[]), CAST(:endpoints AS text[]),
                    CAST(:reasons AS text[])) AS given(id, "row", unit, endpoint, reason)
        WHERE outcome.inference_id = given.id AND outcome."row" = given."row"
    """
    values = {
        "at": at, "ids": [k.report.inference_id for k in known], "rows": [k.report.row for k in known],
        # Nobody but those who see every unit learns that a refused one concerned somebody else's inference.
        "units": ["*" if reason else k.unit for k, reason in zip(known, refusals, strict=True)],
        "endpoints": [k.endpoint for k in known], "reasons": list(refusals),
    }  # fmt: skip
    await session.execute(text(update), values)


@dataclass(frozen=True)
class OutcomeRow:
    """What became true of one row."""

    row: int
    label: float | str | None
    value: float | None
    reported_by: str
    reported_at: datetime
    observed_at: datetime | None

    @classmethod
    def of(cls, r: Any) -> "OutcomeRow":
        """From its row."""
        return cls(r.row, r.label, r.value, r.reported_by, r.reported_at, r.observed_at)


async def outcomes(session: AsyncSession, inference_id: str, first: int, count: int) -> list[OutcomeRow]:
    """What is observed of so many rows of an inference, by row; no report that waits or was refused."""
    select = """
        SELECT * FROM outcome
        WHERE inference_id = :id AND state = 'observed' AND "row" >= :first AND "row" < :end ORDER BY "row"
    """
    rows = await session.execute(text(select), {"id": inference_id, "first": first, "end": first + count})
    return [OutcomeRow.of(r) for r in rows]


async def count_observed(session: AsyncSession, inference_id: str) -> int:
    """Of how many rows of an inference an outcome is observed."""
    select = "SELECT count(*) FROM outcome WHERE inference_id = :id AND state = 'observed'"
    return await session.scalar(text(select), {"id": inference_id}) or 0


async def labels(session: AsyncSession, ids: Sequence[str]) -> list[tuple[str, int, float | str]]:
    """The known truth of some inferences' rows: inference, row, label."""
    select = """
        SELECT inference_id, "row", label FROM outcome
        WHERE inference_id = ANY (CAST(:ids AS text[])) AND state = 'observed' AND label IS NOT NULL
    """
    rows = await session.execute(text(select), {"ids": list(ids)})
    return [(r.inference_id, r.row, r.label) for r in rows]
