"""All SQL of the recorder."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import DeploymentChanged, ModelSchema

from .domain import Outcome, Place
from .rows import Inference

_INSERT_DECISIONS = text("""
    INSERT INTO decision (inference_id, unit, endpoint, use_case, model, version, variant, mode, application, entity,
                          request_id, correlation_id, received_at, latency_ms, rows, path, first_row)
    SELECT inference_id, unit, endpoint, use_case, model, version, variant, mode, application, entity,
           request_id, correlation_id, received_at, latency_ms, rows, path, first_row
    FROM jsonb_populate_recordset(NULL::decision, CAST(:rows AS jsonb))
    ON CONFLICT (inference_id) DO NOTHING
""")
_INSERT_OUTCOMES = text("""
    INSERT INTO outcome (inference_id, row, unit, label, value, observed_at)
    SELECT inference_id, row, unit, label, value, observed_at
    FROM jsonb_populate_recordset(NULL::outcome, CAST(:rows AS jsonb))
    ON CONFLICT (inference_id, row) DO NOTHING RETURNING inference_id, row
""")
_INSERT_EARLY = text("""
    INSERT INTO early_outcome (inference_id, row, label, value)
    SELECT inference_id, row, label, value
    FROM jsonb_populate_recordset(NULL::early_outcome, CAST(:rows AS jsonb))
    ON CONFLICT (inference_id, row) DO NOTHING
""")
_TAKE_EARLY = text("""
    DELETE FROM early_outcome WHERE inference_id = ANY(:ids) RETURNING inference_id, row, label, value
""")


async def save_served(session: AsyncSession, event: DeploymentChanged) -> None:
    insert = """
        INSERT INTO served (endpoint, version, model_schema) VALUES (:endpoint, :version, CAST(:schema AS jsonb))
        ON CONFLICT (endpoint, version) DO NOTHING
    """
    for variant in event.variants:
        values = {"endpoint": event.endpoint, "version": variant.version}
        await session.execute(text(insert), values | {"schema": variant.model_schema.model_dump_json()})


async def schema_of(session: AsyncSession, endpoint: str, version: int) -> ModelSchema | None:
    find = "SELECT model_schema FROM served WHERE endpoint = :endpoint AND version = :version"
    found = (await session.execute(text(find), {"endpoint": endpoint, "version": version})).scalar()
    return ModelSchema.model_validate(found) if found else None


async def save_decisions(session: AsyncSession, recorded: Sequence[tuple[Inference, Place]]) -> None:
    rows = [
        {
            **inference.facts,
            "correlation_id": inference.correlation_id,
            "path": place.path,
            "first_row": place.first_row,
        }
        for inference, place in recorded
    ]
    await session.execute(_INSERT_DECISIONS, {"rows": orjson.dumps(rows).decode()})


async def known_ids(session: AsyncSession, ids: Sequence[str]) -> set[str]:
    found = await session.execute(
        text("SELECT inference_id FROM decision WHERE inference_id = ANY(:ids)"), {"ids": ids}
    )
    return set(found.scalars())


async def decisions(session: AsyncSession, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The decisions of these ids that are recorded and visible."""
    found = await session.execute(text("SELECT * FROM decision WHERE inference_id = ANY(:ids)"), {"ids": list(ids)})
    return {row["inference_id"]: dict(row) for row in found.mappings()}


_FILTERS = {
    "use_case": "use_case = :use_case", "application": "application = :application", "entity": "entity = :entity",
    "endpoint": "endpoint = :endpoint", "start": "received_at >= :start", "end": "received_at < :end",
    "before": "(received_at, inference_id) < (:before, :before_id)",
}  # fmt: skip


async def search(session: AsyncSession, filters: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    """Decisions, newest first, by any of the filters."""
    given = {name: value for name, value in filters.items() if value is not None}
    where = " AND ".join(_FILTERS[name] for name in given if name in _FILTERS) or "true"
    find = f"SELECT * FROM decision WHERE {where} ORDER BY received_at DESC, inference_id DESC LIMIT :limit"
    return [dict(row) for row in (await session.execute(text(find), given | {"limit": limit})).mappings()]


async def save_outcomes(
    session: AsyncSession, outcomes: Sequence[tuple[Outcome, str]], at: datetime
) -> set[tuple[str, int]]:
    """Store outcomes with their units; answers which of them are new."""
    rows = [
        {
            "inference_id": o.inference_id,
            "row": o.row,
            "unit": unit,
            "label": o.label,
            "value": o.value,
            "observed_at": at,
        }
        for o, unit in outcomes
    ]
    made = await session.execute(_INSERT_OUTCOMES, {"rows": orjson.dumps(rows).decode()})
    return {(row.inference_id, row.row) for row in made}


async def park(session: AsyncSession, outcomes: Sequence[Outcome]) -> None:
    """Keep outcomes whose inference has not arrived."""
    rows = [{"inference_id": o.inference_id, "row": o.row, "label": o.label, "value": o.value} for o in outcomes]
    await session.execute(_INSERT_EARLY, {"rows": orjson.dumps(rows).decode()})


async def take_early(session: AsyncSession, ids: Sequence[str]) -> list[Outcome]:
    """The outcomes that waited for these inferences; they no longer wait."""
    rows = await session.execute(_TAKE_EARLY, {"ids": list(ids)})
    return [Outcome(row.inference_id, row.row, row.label, row.value) for row in rows]


async def outcomes_of(session: AsyncSession, ids: Sequence[str]) -> list[dict[str, Any]]:
    find = """
        SELECT inference_id, row, label, value, observed_at FROM outcome
        WHERE inference_id = ANY(:ids) ORDER BY inference_id, row
    """
    return [dict(row) for row in (await session.execute(text(find), {"ids": list(ids)})).mappings()]


async def labelled(
    session: AsyncSession, endpoint: str, model: str, since: datetime | None
) -> list[tuple[str, int, Any]]:
    """Path, row in the file and label of every labelled row of an endpoint's model, by file and row."""
    find = """
        SELECT d.path, d.first_row + o.row AS place, o.label
        FROM decision AS d JOIN outcome AS o USING (inference_id)
        WHERE d.endpoint = :endpoint AND d.model = :model AND o.label IS NOT NULL AND o.row < d.rows
          AND (CAST(:since AS timestamptz) IS NULL OR d.received_at >= :since)
        ORDER BY d.path, place
    """
    rows = await session.execute(text(find), {"endpoint": endpoint, "model": model, "since": since})
    return [(row.path, row.place, row.label) for row in rows]
