"""All SQL of the recorder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import DeploymentChanged, ModelSchema
from services.kit.errors import NotFound

from .domain.layout import Head
from .domain.outcomes import Known, Report

# Schemas


async def save_versions(session: AsyncSession, event: DeploymentChanged) -> None:
    """The schemas of every version that a deployment names, in place of what was known of them."""
    insert = """
        INSERT INTO version (endpoint, version, unit, model, model_schema)
        VALUES (:endpoint, :version, :unit, :model, CAST(:schema AS jsonb))
        ON CONFLICT (endpoint, version) DO UPDATE SET unit = excluded.unit, model = excluded.model,
            model_schema = excluded.model_schema
    """
    for variant in event.variants:
        row = {"endpoint": event.endpoint, "version": variant.version, "unit": event.unit, "model": variant.model}
        await session.execute(text(insert), row | {"schema": variant.model_schema.model_dump_json()})


async def schema(session: AsyncSession, endpoint: str, version: int) -> ModelSchema | None:
    """None for a version that no deployment has named yet."""
    select = "SELECT model_schema FROM version WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": endpoint, "v": version})).first()
    return ModelSchema.model_validate(row.model_schema) if row else None


async def newest_schema(session: AsyncSession, endpoint: str, model: str) -> ModelSchema:
    """Of the newest version of a model behind an endpoint. Raises NotFound."""
    select = """
        SELECT model_schema FROM version WHERE endpoint = :e AND model = :m ORDER BY version DESC LIMIT 1
    """
    row = (await session.execute(text(select), {"e": endpoint, "m": model})).first()
    if row is None:
        raise NotFound(f"no version of the model {model} serves or served behind the endpoint {endpoint}")
    return ModelSchema.model_validate(row.model_schema)


# Files


@dataclass(frozen=True)
class NewFile:
    """A file of one batch: its place and what is in it."""

    path: str
    endpoint: str
    unit: str
    partition: int
    first: int
    last: int
    rows: int
    heads: tuple[Head, ...]


_ADD_FILE = text("""
    INSERT INTO file (path, endpoint, unit, partition, first_offset, last_offset, rows, earliest, latest)
    VALUES (:path, :endpoint, :unit, :partition, :first, :last, :rows, :earliest, :latest) RETURNING id
""")
_ADD_DECISIONS = text("""
    INSERT INTO decision (inference_id, unit, endpoint, use_case, model, version, mode, application, entity, rows,
                          received_at, shadow_of, file)
    SELECT *, :file FROM unnest(
        CAST(:inference_id AS text[]), CAST(:unit AS text[]), CAST(:endpoint AS text[]), CAST(:use_case AS text[]),
        CAST(:model AS text[]), CAST(:version AS int[]), CAST(:mode AS text[]), CAST(:application AS text[]),
        CAST(:entity AS text[]), CAST(:rows AS int[]), CAST(:received_at AS timestamptz[]),
        CAST(:shadow_of AS text[]))
    ON CONFLICT (inference_id) DO NOTHING
""")
_INDEXED = (
    "inference_id", "unit", "endpoint", "use_case", "model", "version", "mode", "application", "entity", "rows",
    "received_at", "shadow_of",
)  # fmt: skip


async def add_file(session: AsyncSession, new: NewFile) -> None:
    """A file's row and the index of its decisions."""
    times = [head.received_at for head in new.heads]
    values = {
        "path": new.path, "endpoint": new.endpoint, "unit": new.unit, "partition": new.partition, "first": new.first,
        "last": new.last, "rows": new.rows, "earliest": min(times), "latest": max(times),
    }  # fmt: skip
    file = await session.scalar(_ADD_FILE, values)
    columns = {name: [getattr(head, name) for head in new.heads] for name in _INDEXED}
    await session.execute(_ADD_DECISIONS, columns | {"file": file})


async def already_there(session: AsyncSession, ids: Sequence[str]) -> set[str]:
    """Which of these inferences were recorded before."""
    select = "SELECT inference_id FROM decision WHERE inference_id = ANY (CAST(:ids AS text[]))"
    return set(await session.scalars(text(select), {"ids": list(ids)}))


async def unplaced(session: AsyncSession) -> list[tuple[int, str]]:
    """Files that committed and have not got their names yet."""
    rows = await session.execute(text("SELECT id, path FROM file WHERE NOT placed AND NOT removing ORDER BY id"))
    return [(row.id, row.path) for row in rows]


async def mark_placed(session: AsyncSession, ids: Sequence[int]) -> None:
    """These files have their names."""
    await session.execute(
        text("UPDATE file SET placed = true WHERE id = ANY (CAST(:ids AS bigint[]))"), {"ids": list(ids)}
    )


async def paths(session: AsyncSession, files: Sequence[int]) -> dict[int, str]:
    """Of some files, by their ids, below the folder of Parquet files; an id that is not known is left out."""
    select = "SELECT id, path FROM file WHERE id = ANY (CAST(:ids AS bigint[]))"
    return {row.id: row.path for row in await session.execute(text(select), {"ids": list(files)})}


@dataclass(frozen=True)
class Recorded:
    """A file of the books: where it lies, how many rows it has, and its place in their order."""

    path: str
    rows: int
    latest: datetime
    id: int


async def files_of(
    session: AsyncSession, endpoint: str, since: datetime | None, before: Recorded | None, limit: int
) -> list[Recorded]:
    """An endpoint's files that reach beyond `since`, newest first, those before `before`."""
    select = """
        SELECT path, rows, latest, id FROM file
        WHERE endpoint = :e AND NOT removing AND (CAST(:since AS timestamptz) IS NULL OR latest >= :since)
            AND (CAST(:latest AS timestamptz) IS NULL OR (latest, id) < (:latest, :id))
        ORDER BY latest DESC, id DESC LIMIT :limit
    """
    latest, id = (before.latest, before.id) if before else (None, 0)
    values = {"e": endpoint, "since": since, "latest": latest, "id": id, "limit": limit}
    return [Recorded(**row) for row in (await session.execute(text(select), values)).mappings()]


async def forget(session: AsyncSession, kept: timedelta, limit: int = 1_000) -> int:
    """Mark files that are too old as to be removed, and delete their decisions and outcomes; answers how many files."""
    # Without the cast PostgreSQL takes what is subtracted from a moment for a moment, and compares an interval.
    mark = """
        UPDATE file SET removing = true WHERE id IN (
            SELECT id FROM file WHERE latest < now() - CAST(:kept AS interval) AND NOT removing
            ORDER BY latest LIMIT :limit FOR UPDATE
        ) RETURNING id
    """
    gone = list(await session.scalars(text(mark), {"kept": kept, "limit": limit}))
    decisions = """
        WITH gone AS (DELETE FROM decision WHERE file = ANY (CAST(:ids AS bigint[])) RETURNING inference_id)
        DELETE FROM outcome USING gone WHERE outcome.inference_id = gone.inference_id
    """
    if gone:
        await session.execute(text(decisions), {"ids": gone})
    return len(gone)


async def removing(session: AsyncSession, limit: int = 1_000) -> list[tuple[int, str]]:
    """Files that are out of the books and perhaps still on the disk."""
    rows = await session.execute(text("SELECT id, path FROM file WHERE removing LIMIT :limit"), {"limit": limit})
    return [(row.id, row.path) for row in rows]


async def drop(session: AsyncSession, file: int) -> None:
    """A file that is to be removed is off the disk."""
    await session.execute(text("DELETE FROM file WHERE id = :id AND removing"), {"id": file})


# Decisions


@dataclass(frozen=True)
class DecisionRow:
    """A decision as the index has it."""

    inference_id: str
    unit: str
    endpoint: str
    use_case: str
    model: str
    version: int
    mode: str
    application: str
    entity: str | None
    rows: int
    received_at: datetime
    shadow_of: str | None
    """The decision that callers were told, where this one is a shadow's."""
    file: int


@dataclass(frozen=True)
class Wanted:
    """Which decisions a caller asks for."""

    use_case: str | None = None
    application: str | None = None
    entity: str | None = None
    endpoint: str | None = None
    start: datetime | None = None
    end: datetime | None = None


def _decision(row: Any) -> DecisionRow:
    return DecisionRow(**{name: getattr(row, name) for name in (*_INDEXED, "file")})


async def decision(session: AsyncSession, inference_id: str) -> DecisionRow:
    """Raises NotFound."""
    select = "SELECT * FROM decision WHERE inference_id = :id"
    row = (await session.execute(text(select), {"id": inference_id})).first()
    if row is None:
        raise NotFound("there is no recorded decision with this id")
    return _decision(row)


async def decisions(
    session: AsyncSession, wanted: Wanted, before: tuple[datetime, str] | None, limit: int
) -> list[DecisionRow]:
    """Newest first; what shadows would have decided is none."""
    conditions = [f"{name} = :{name}" for name in ("use_case", "application", "entity", "endpoint")
                  if getattr(wanted, name) is not None]  # fmt: skip
    if wanted.start:
        conditions.append("received_at >= :start")
    if wanted.end:
        conditions.append("received_at < :end")
    values = {name: value for name, value in vars(wanted).items() if value is not None} | {"limit": limit}
    if before:
        conditions.append("(received_at, inference_id) < (:before_at, :before_id)")
        values |= {"before_at": before[0], "before_id": before[1]}
    where = " AND ".join(("shadow_of IS NULL", *conditions))
    select = f"SELECT * FROM decision WHERE {where} ORDER BY received_at DESC, inference_id DESC LIMIT :limit"
    return [_decision(row) for row in await session.execute(text(select), values)]


# Outcomes

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
            partition = excluded.partition, "offset" = excluded."offset", reported_at = now()
        WHERE (known.label, known.value) IS DISTINCT FROM ({_SAYS.format(new="excluded")})
            AND (known.unit = '*' OR excluded.units IS NULL OR excluded.units && ARRAY['*', known.unit])
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM kept) AS new,
           (SELECT count(*) FROM given JOIN outcome AS known USING (inference_id, "row")
            WHERE (known.label, known.value) IS NOT DISTINCT FROM ({_SAYS.format(new="given")})) AS repeated
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
            "offset" = given."offset", reported_at = now()
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


async def met(session: AsyncSession, limit: int) -> list[Known]:
    """Waiting outcomes whose inference is recorded; they are locked."""
    select = """
        SELECT o.inference_id, o."row", o.label, o.value, o.units, o.reported_by, o.partition, o."offset",
               o.reported_at, d.unit, d.endpoint, d.rows, d.file
        FROM outcome AS o JOIN decision AS d USING (inference_id) WHERE o.state = 'waiting'
        ORDER BY d.file LIMIT :limit FOR UPDATE OF o SKIP LOCKED
    """
    return [
        Known(
            _said(r), r.unit, r.endpoint, r.rows, r.file, r.reported_at,
        )
        for r in await session.execute(text(select), {"limit": limit})
    ]  # fmt: skip


async def sizes(session: AsyncSession, ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Unit and number of rows of the inferences that are recorded."""
    select = "SELECT inference_id, unit, rows FROM decision WHERE inference_id = ANY (CAST(:ids AS text[]))"
    return {r.inference_id: (r.unit, r.rows) for r in await session.execute(text(select), {"ids": list(ids)})}


async def settle(session: AsyncSession, known: Sequence[Known], refusals: Sequence[str | None], at: datetime) -> None:
    """Observed outcomes get their inference's unit and endpoint; refused ones their reason."""
    update = """
        UPDATE outcome SET unit = given.unit, endpoint = given.endpoint, reason = given.reason, observed_at = :at,
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


async def expired(session: AsyncSession, patience: timedelta, limit: int = 1_000) -> list[Report]:
    """Outcomes whose inference never came; they are gone then."""
    take = """
        DELETE FROM outcome WHERE (inference_id, "row") IN (
            SELECT inference_id, "row" FROM outcome
            WHERE state = 'waiting' AND reported_at < now() - CAST(:patience AS interval)
            LIMIT :limit)
        RETURNING *
    """
    rows = await session.execute(text(take), {"patience": patience, "limit": limit})
    return [_said(r) for r in rows]


def _said(r: Any) -> Report:
    units = None if r.units is None else frozenset(r.units)
    return Report(r.inference_id, r.row, r.label, r.value, r.reported_by, units, r.partition, r.offset)


@dataclass(frozen=True)
class OutcomeRow:
    """What became true of one row."""

    row: int
    label: float | str | None
    value: float | None
    reported_by: str
    reported_at: datetime
    observed_at: datetime | None


async def outcomes(session: AsyncSession, inference_id: str) -> list[OutcomeRow]:
    """What is observed of an inference, by row; reports that wait or were refused are not among them."""
    select = "SELECT * FROM outcome WHERE inference_id = :id AND state = 'observed' ORDER BY \"row\""
    rows = await session.execute(text(select), {"id": inference_id})
    return [OutcomeRow(r.row, r.label, r.value, r.reported_by, r.reported_at, r.observed_at) for r in rows]


async def labels(session: AsyncSession, ids: Sequence[str]) -> list[tuple[str, int, float | str]]:
    """The known truth of some inferences' rows: inference, row, label."""
    select = """
        SELECT inference_id, "row", label FROM outcome
        WHERE inference_id = ANY (CAST(:ids AS text[])) AND state = 'observed' AND label IS NOT NULL
    """
    rows = await session.execute(text(select), {"ids": list(ids)})
    return [(r.inference_id, r.row, r.label) for r in rows]
