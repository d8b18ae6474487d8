"""Decisions found again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, Literal

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.errors import NotFound

from ..domain.layout import Place
from .files import INDEXED
from .patience import PATIENCE_S, in_time
from .reports import OutcomeRow


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
    variant: str | None
    """None: the index does not know it, its rows do."""
    instead_of: str | None


@dataclass(frozen=True)
class Wanted:
    """Which decisions a caller asks for."""

    use_case: str | None = None
    application: str | None = None
    entity: str | None = None
    endpoint: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    model: str | None = None
    version: int | None = None
    variant: str | None = None
    mode: str | None = None
    outcome: Literal["known", "unknown"] | None = None
    label: str | None = None
    """What was observed of any of its rows, as a person writes it: a text or a number."""


_TOO_WIDE = (
    f"this list takes longer than {PATIENCE_S} s: ask for an endpoint, use_case, application or entity, or for a "
    "shorter time (from, to)"
)

_FEW = 20_000
"""Of so many decisions each is looked at."""
_UNDATED = "o.state = 'observed' AND o.decided_at IS NULL"
_EQUAL = ("use_case", "application", "entity", "endpoint", "model", "version", "variant", "mode")
_NEWEST_FIRST = "ORDER BY received_at DESC, inference_id DESC LIMIT :limit"
_OBSERVED = "EXISTS (SELECT FROM outcome AS o WHERE o.inference_id = decision.inference_id AND o.state = 'observed'{})"
_LABELS = "CAST(CAST(:labels AS text[]) AS jsonb[])"
_LABELLED = f" AND o.label = ANY ({_LABELS})"
_UNITS = "SELECT name FROM unnest(CAST(:units AS text[])) AS seen(name)"
# One step in the index for each unit: it has no list of them.
_EVERY_UNIT = """
    WITH RECURSIVE seen(name) AS (
        (SELECT unit FROM outcome WHERE state = 'observed' ORDER BY unit LIMIT 1)
        UNION ALL
        SELECT (SELECT unit FROM outcome WHERE state = 'observed' AND unit > seen.name ORDER BY unit LIMIT 1)
        FROM seen WHERE seen.name IS NOT NULL
    ) SELECT name FROM seen WHERE name IS NOT NULL
"""


def _decision(row: Any) -> DecisionRow:
    return DecisionRow(**{name: getattr(row, name) for name in INDEXED})


async def decision(session: AsyncSession, inference_id: str) -> tuple[DecisionRow, Place]:
    """A decision and where its rows are. Raises NotFound."""
    select = """
        SELECT decision.*, file.path, file.pending FROM decision
        JOIN segment ON segment.id = decision.segment JOIN file ON file.id = segment.file
        WHERE inference_id = :id
    """
    row = (await session.execute(text(select), {"id": inference_id})).first()
    if row is None:
        raise NotFound("there is no recorded decision with this id")
    return _decision(row), Place(row.path, row.pending)


async def decisions(
    session: AsyncSession, wanted: Wanted, before: tuple[datetime, str] | None, limit: int,
    units: Sequence[str] | None = None,
) -> list[DecisionRow]:  # fmt: skip
    """Newest first; what shadows would have decided is none. `units`: those that the session sees, None for all.

    Raises Invalid where it takes longer than a list may.
    """
    async with in_time(session, _TOO_WIDE):
        by_outcome = _is_of_outcomes(wanted) and not (await _undated(session) or await _few(session, wanted))
        select, values = question(wanted, before, limit, units, by_outcome)
        return [_decision(row) for row in await session.execute(text(select), values)]


def _is_of_outcomes(wanted: Wanted) -> bool:
    """Whether it may go through what was observed; an entity's decisions are few."""
    followed = wanted.outcome == "known" or (wanted.label is not None and wanted.outcome is None)
    return followed and wanted.entity is None


async def _undated(session: AsyncSession) -> bool:
    """Whether outcomes of before do not hold yet when their decisions were made: the index by that lacks them."""
    select = f"SELECT EXISTS (SELECT FROM outcome AS o JOIN decision USING (inference_id) WHERE {_UNDATED})"
    return bool(await session.scalar(text(select)))


async def _few(session: AsyncSession, wanted: Wanted) -> bool:
    """Whether an index of the decisions leaves so few that each is looked at: they may be older than all outcomes."""
    for name in ("use_case", "application", "endpoint"):
        if (value := getattr(wanted, name)) is not None:
            where = " AND ".join([f"{name} = :{name}", *_when(wanted, "received_at", False)])
            some = f"SELECT count(*) FROM (SELECT FROM decision WHERE {where} LIMIT {_FEW + 1}) AS few"
            values = {name: value, "start": wanted.start, "end": wanted.end}
            bound = {name: value for name, value in values.items() if value is not None}
            if (await session.scalar(text(some), bound) or 0) <= _FEW:
                return True
    return False


async def date_outcomes(session: AsyncSession, limit: int = 10_000) -> int:
    """Some outcomes that were observed before they held when their decision was made get to; answers how many."""
    update = f"""
        WITH undated AS (
            SELECT o.inference_id, o."row", d.received_at FROM outcome AS o JOIN decision AS d USING (inference_id)
            WHERE {_UNDATED} LIMIT :limit FOR UPDATE OF o SKIP LOCKED
        )
        UPDATE outcome AS o SET decided_at = undated.received_at FROM undated
        WHERE o.inference_id = undated.inference_id AND o."row" = undated."row" RETURNING 1
    """
    return len((await session.execute(text(update), {"limit": limit})).all())


def question(
    wanted: Wanted, before: tuple[datetime, str] | None, limit: int, units: Sequence[str] | None = None,
    by_outcome: bool = False,
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    """The SQL of a list, through decisions or through what was observed, and its values.

    Row-level security only filters what an index gave, and another unit's decisions may be many: an index gives each
    unit's own, newest first.
    """
    values = {name: value for name, value in vars(wanted).items() if value is not None} | {"limit": limit}
    if wanted.label is not None:
        values["labels"] = _said(wanted.label)
    if before:
        values |= {"before_at": before[0], "before_id": before[1]}
    if units is not None:
        values["units"] = list(units)
    return (_by_outcome if by_outcome else _by_decision)(wanted, before is not None, units is not None), values


def _by_decision(wanted: Wanted, following: bool, some_units: bool) -> str:
    """Through the decisions, by one of their indexes."""
    conditions = [*_about(wanted), *_when(wanted, "received_at", following)]
    if wanted.outcome:
        conditions.append(("" if wanted.outcome == "known" else "NOT ") + _OBSERVED.format(""))
    if wanted.label is not None:
        conditions.append(_OBSERVED.format(_LABELLED))
    where = " AND ".join(conditions)
    if not some_units:
        return f"SELECT * FROM decision WHERE {where} {_NEWEST_FIRST}"
    return f"""
        SELECT own.* FROM ({_UNITS}) AS seen CROSS JOIN LATERAL (
            SELECT * FROM decision WHERE decision.unit = seen.name AND {where} {_NEWEST_FIRST}
        ) AS own {_NEWEST_FIRST}
    """


def _by_outcome(wanted: Wanted, following: bool, some_units: bool) -> str:
    """Through what was observed in each unit, and there through each label that is meant."""
    conditions = ["o.state = 'observed'", "o.unit = seen.name", "o.decided_at IS NOT NULL"]
    conditions += _when(wanted, "o.decided_at", following, "o.")
    if wanted.endpoint is not None:
        conditions.append("o.endpoint = :endpoint")
    if wanted.label is not None:
        conditions.append("o.label = said.label AND o.label IS NOT NULL")
    labels = f"CROSS JOIN unnest({_LABELS}) AS said(label)" if wanted.label is not None else ""
    about = " AND ".join(_about(wanted))
    step = f"SELECT o.decided_at, o.inference_id FROM outcome AS o WHERE {' AND '.join(conditions)}"
    newest = "ORDER BY o.decided_at DESC, o.inference_id DESC LIMIT 1"
    # From decision to decision, whatever number of its rows have an outcome, and no further than the limit. OFFSET 0:
    # each decision is looked up by its id, and none is read that no outcome named.
    return f"""
        SELECT DISTINCT own.* FROM ({_UNITS if some_units else _EVERY_UNIT}) AS seen {labels} CROSS JOIN LATERAL (
            WITH RECURSIVE step AS (
                ({step} {newest}) UNION ALL SELECT following.* FROM step CROSS JOIN LATERAL (
                    {step} AND (o.decided_at, o.inference_id) < (step.decided_at, step.inference_id) {newest}
                ) AS following
            ) SELECT d.* FROM step CROSS JOIN LATERAL (
                SELECT * FROM decision WHERE decision.inference_id = step.inference_id AND {about} OFFSET 0
            ) AS d LIMIT :limit
        ) AS own {_NEWEST_FIRST}
    """


def _about(wanted: Wanted) -> list[str]:
    return ["shadow_of IS NULL", *(f"{name} = :{name}" for name in _EQUAL if getattr(wanted, name) is not None)]


def _when(wanted: Wanted, column: str, following: bool, of: str = "") -> list[str]:
    found = [f"{column} >= :start"] if wanted.start else []
    found += [f"{column} < :end"] if wanted.end else []
    return found + ([f"({column}, {of}inference_id) < (:before_at, :before_id)"] if following else [])


def _said(label: str) -> list[str]:
    """As JSON: what a person writes may be a text or a number."""
    try:
        number = float(label)
    except ValueError:
        number = None
    said = [label] if number is None or not isfinite(number) else [label, number]
    return [orjson.dumps(each).decode() for each in said]


@dataclass(frozen=True)
class Followed:
    """What is observed of a decision: of how many rows, what it was worth together, and of its first rows what."""

    observed: int = 0
    value: float | None = None
    outcomes: tuple[OutcomeRow, ...] = ()


async def followed(session: AsyncSession, ids: Sequence[str], rows_at_most: int) -> dict[str, Followed]:
    """What followed from some decisions; those of which nothing is known are not among them."""
    select = """
        SELECT * FROM (
            SELECT *, row_number() OVER (PARTITION BY inference_id ORDER BY "row") AS place,
                count(*) OVER whole AS observed, sum(value) OVER whole AS worth
            FROM outcome WHERE inference_id = ANY (CAST(:ids AS text[])) AND state = 'observed'
            WINDOW whole AS (PARTITION BY inference_id)
        ) AS o WHERE place <= :most ORDER BY inference_id, "row"
    """
    found: dict[str, Followed] = {}
    for row in await session.execute(text(select), {"ids": list(ids), "most": rows_at_most}):
        before = found.get(row.inference_id, Followed())
        found[row.inference_id] = Followed(row.observed, row.worth, (*before.outcomes, OutcomeRow.of(row)))
    return found


@dataclass(frozen=True)
class Chosen:
    """A decision whose rows are to be frozen."""

    inference_id: str
    received_at: datetime
    rows: int
    file: int


async def newest(
    session: AsyncSession, endpoint: str, model: str, since: datetime | None, before: Chosen | None, limit: int
) -> list[Chosen]:
    """Decisions of a model behind an endpoint whose payload was logged, newest first, those before `before`."""
    select = """
        SELECT inference_id, received_at, rows, segment.file FROM decision
        JOIN segment ON segment.id = decision.segment
        WHERE endpoint = :e AND model = :m AND shadow_of IS NULL AND sampled IS DISTINCT FROM false AND rows > 0
            AND (CAST(:since AS timestamptz) IS NULL OR received_at >= :since)
            AND (CAST(:at AS timestamptz) IS NULL OR (received_at, inference_id) < (:at, :id))
        ORDER BY received_at DESC, inference_id DESC LIMIT :limit
    """
    at, id = (before.received_at, before.inference_id) if before else (None, "")
    values = {"e": endpoint, "m": model, "since": since, "at": at, "id": id, "limit": limit}
    return [Chosen(**row) for row in (await session.execute(text(select), values)).mappings()]
