"""All SQL of the catalog. Row-level security shows each caller the units of their token."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import DeploymentChanged, Grant, RetrainingCompleted
from services.kit.db import Database

from .domain import Arrival, Candidate, Granted, Listed, ModelVersion, Retraining, Serving, UseCase

_VERSION = """
    SELECT model, version, unit, state, content, registered_by, registered_at, retired_by, retired_reason FROM version
"""


class Added(NamedTuple):
    """What is there after an insertion, and whether the insertion made it."""

    use_case: UseCase | None
    is_new: bool


async def add_use_case(session: AsyncSession, use_case: UseCase, by: str, at: datetime) -> Added:
    """Insert it and answer what is there now; None where another unit has the name."""
    insert = text("""
        INSERT INTO use_case (name, unit, content, registered_by, registered_at)
        VALUES (:name, :unit, CAST(:content AS jsonb), :by, :at) ON CONFLICT DO NOTHING RETURNING name
    """)
    values = {
        "name": use_case.use_case,
        "unit": use_case.unit,
        "content": use_case.model_dump_json(),
        "by": by,
        "at": at,
    }
    is_new = (await session.execute(insert, values)).first() is not None
    return Added(await use_case_of(session, use_case.use_case), is_new)


async def use_case_of(session: AsyncSession, name: str) -> UseCase | None:
    """None for one that the caller does not see, too."""
    row = (await session.execute(text("SELECT content FROM use_case WHERE name = :name"), {"name": name})).first()
    return UseCase.model_validate(row.content) if row else None


async def use_cases(session: AsyncSession, after: str, limit: int) -> list[UseCase]:
    """At most `limit` use cases whose names come after `after`, by name."""
    select = text("SELECT content FROM use_case WHERE name > :after ORDER BY name LIMIT :limit")
    rows = (await session.execute(select, {"after": after, "limit": limit})).all()
    return [UseCase.model_validate(row.content) for row in rows]


async def lock_model(session: AsyncSession, name: str, unit: str) -> bool:
    """Make sure that the model is there and hold its row until the commit; False where another unit has the name."""
    insert = text("INSERT INTO model (name, unit) VALUES (:name, :unit) ON CONFLICT DO NOTHING")
    await session.execute(insert, {"name": name, "unit": unit})
    select = text("SELECT 1 FROM model WHERE name = :name AND unit = :unit FOR UPDATE")
    return (await session.execute(select, {"name": name, "unit": unit})).first() is not None


async def version_by_digest(session: AsyncSession, model: str, digest: str) -> ModelVersion | None:
    """The first version that has these bytes; a retraining may have made them again."""
    select = text(_VERSION + "WHERE model = :model AND digest = :digest ORDER BY version LIMIT 1")
    return _first((await session.execute(select, {"model": model, "digest": digest})).first())


async def next_version(session: AsyncSession, model: str) -> int:
    """The next number; the model's row must be locked."""
    update = text("UPDATE model SET versions = versions + 1 WHERE name = :name RETURNING versions")
    return (await session.execute(update, {"name": model})).scalar_one()


async def add_version(session: AsyncSession, made: ModelVersion) -> None:
    """Insert a version; the model is found under its newest words and tags."""
    candidate = made.candidate
    insert = text("""
        INSERT INTO version (model, version, unit, digest, state, content, retraining_id, registered_by, registered_at)
        VALUES (:model, :version, :unit, :digest, :state, CAST(:content AS jsonb), :retraining_id, :by, :at)
    """)
    await session.execute(insert, {
        "model": made.model, "version": made.version, "unit": made.unit, "digest": candidate.digest,
        "state": made.state, "content": candidate.model_dump_json(), "retraining_id": candidate.training.retraining_id,
        "by": made.registered_by, "at": made.registered_at,
    })  # fmt: skip
    update = text("""
        UPDATE model SET tags = :tags, state = :state,
            search = setweight(to_tsvector('simple', replace(:name, '-', ' ') || ' ' || :name), 'A')
                || setweight(to_tsvector('simple', :words), 'B')
        WHERE name = :name
    """)
    found_by = {"tags": list(candidate.manifest.tags), "words": made.words()}
    await session.execute(update, {"name": made.model, "state": made.state, **found_by})


async def version_of(session: AsyncSession, model: str, version: int, *, lock: bool = False) -> ModelVersion | None:
    """One version; `lock` holds its row until the commit."""
    select = text(_VERSION + "WHERE model = :model AND version = :version" + (" FOR UPDATE" if lock else ""))
    return _first((await session.execute(select, {"model": model, "version": version})).first())


async def versions_of(session: AsyncSession, model: str, before: int | None, limit: int) -> list[ModelVersion]:
    """At most `limit` versions with numbers below `before`, the newest first."""
    select = f"""
        {_VERSION} WHERE model = :model AND (CAST(:before AS bigint) IS NULL OR version < :before)
        ORDER BY version DESC LIMIT :limit
    """
    rows = (await session.execute(text(select), {"model": model, "before": before, "limit": limit})).all()
    return [_version(row) for row in rows]


async def save_state(session: AsyncSession, made: ModelVersion) -> None:
    """The state of a version, and of its model where it is the newest."""
    update = text("""
        UPDATE version SET state = :state, retired_by = :by, retired_reason = :reason
        WHERE model = :model AND version = :version
    """)
    await session.execute(update, {
        "state": made.state, "by": made.retired_by, "reason": made.retired_reason,
        "model": made.model, "version": made.version,
    })  # fmt: skip
    newest = text("UPDATE model SET state = :state WHERE name = :model AND versions = :version")
    await session.execute(newest, {"state": made.state, "model": made.model, "version": made.version})


async def search(
    session: AsyncSession, query: str | None, tag: str | None, state: str | None, after: str, limit: int
) -> list[Listed]:
    """Models that fit, by name, at most `limit`; of the newest version only what a list shows is read."""
    select = text("""
        WITH found AS (
            SELECT m.name, m.versions, EXISTS (
                SELECT FROM serving s WHERE s.variants @> jsonb_build_array(jsonb_build_object('model', m.name))
            ) AS serves, m.state
            FROM model m
            WHERE m.name > CAST(:after AS text)
              AND (CAST(:query AS text) IS NULL
                   OR m.search @@ websearch_to_tsquery('simple', CAST(:query AS text))
                   OR m.name LIKE CAST(:prefix AS text))
              AND (CAST(:tag AS text) IS NULL OR m.tags @> ARRAY[CAST(:tag AS text)])
        )
        SELECT v.model, v.version, v.unit, v.state, v.content #>> '{manifest,format}' AS format,
               v.content #>> '{manifest,description}' AS description, v.content #> '{manifest,tags}' AS tags,
               v.registered_at, found.serves
        FROM found JOIN version v ON v.model = found.name AND v.version = found.versions
        WHERE CAST(:state AS text) IS NULL OR found.state = CAST(:state AS text)
           OR (CAST(:state AS text) = 'serving' AND found.serves)
        ORDER BY v.model LIMIT :limit
    """)
    prefix = (query or "").replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
    values = {"query": query, "prefix": prefix, "tag": tag, "state": state, "after": after, "limit": limit}
    rows = (await session.execute(select, values)).all()
    return [
        Listed(row.model, row.version, row.unit, row.state, row.format, row.description, tuple(row.tags),
               row.registered_at, row.serves)
        for row in rows
    ]  # fmt: skip


async def note_serving(session: AsyncSession, event: DeploymentChanged, unit: str) -> bool:
    """Remember what an endpoint serves; False for a revision that is not newer."""
    upsert = text("""
        INSERT INTO serving (endpoint, unit, use_case, revision, variants)
        VALUES (:endpoint, :unit, :use_case, :revision, CAST(:variants AS jsonb))
        ON CONFLICT (endpoint) DO UPDATE SET use_case = :use_case, revision = :revision, variants = EXCLUDED.variants
        WHERE serving.revision < :revision RETURNING 1
    """)
    variants = event.variants if event.state == "serving" else ()
    values = {
        "endpoint": event.endpoint, "unit": unit, "use_case": event.use_case, "revision": event.revision,
        "variants": _json([{"model": each.model, "version": each.version} for each in variants]),
    }  # fmt: skip
    return (await session.execute(upsert, values)).first() is not None


async def serving_of(session: AsyncSession, model: str) -> list[Serving]:
    """What serves anywhere of a model, by endpoint."""
    select = text("""
        SELECT endpoint, use_case, CAST(variant ->> 'version' AS integer) AS version, revision
        FROM serving, jsonb_array_elements(variants) AS variant
        WHERE variants @> CAST(:wanted AS jsonb) AND variant ->> 'model' = :model ORDER BY endpoint, version
    """)
    rows = (await session.execute(select, {"wanted": _json([{"model": model}]), "model": model})).all()
    return [Serving(row.endpoint, row.use_case, row.version, row.revision) for row in rows]


async def note_grant(session: AsyncSession, grant: Grant, unit: str) -> None:
    """Keep who allowed a version where; the same grant again changes nothing."""
    said = grant.statement
    insert = text("""
        INSERT INTO granted (approval_id, unit, model, version, endpoint, granted_by, granted_at)
        VALUES (:id, :unit, :model, :version, :endpoint, :by, :at) ON CONFLICT DO NOTHING
    """)
    await session.execute(insert, {
        "id": str(said.approval_id), "unit": unit, "model": said.model, "version": said.version,
        "endpoint": said.endpoint, "by": said.granted_by, "at": said.granted_at,
    })  # fmt: skip


async def grants_of(session: AsyncSession, model: str, version: int) -> list[Granted]:
    """The grants that name a version, the oldest first."""
    select = text("""
        SELECT approval_id, endpoint, version, granted_by, granted_at FROM granted
        WHERE model = :model AND version = :version ORDER BY granted_at
    """)
    return [Granted(*row) for row in (await session.execute(select, {"model": model, "version": version})).all()]


async def note_retraining(session: AsyncSession, model: str, unit: str, retraining: Retraining) -> None:
    """Keep what became of a retraining; what is kept of it stays as it is."""
    insert = text("""
        INSERT INTO retraining
            (retraining_id, unit, model, parent_version, outcome, version, snapshot_digest, trained_rows)
        VALUES (:id, :unit, :model, :parent, :outcome, :version, :snapshot, :rows) ON CONFLICT DO NOTHING
    """)
    await session.execute(insert, {
        "id": retraining.retraining_id, "unit": unit, "model": model, "parent": retraining.parent_version,
        "outcome": retraining.outcome, "version": retraining.version, "snapshot": retraining.snapshot_digest,
        "rows": retraining.trained_rows,
    })  # fmt: skip


async def retrainings_of(session: AsyncSession, model: str, version: int) -> list[Retraining]:
    """The retrainings that started from a version, by id, which is by time."""
    select = text("""
        SELECT retraining_id, parent_version, outcome, version, snapshot_digest, trained_rows FROM retraining
        WHERE model = :model AND parent_version = :version ORDER BY retraining_id
    """)
    return [Retraining(*row) for row in (await session.execute(select, {"model": model, "version": version})).all()]


async def add_arrival(session: AsyncSession, arrival: Arrival, at: datetime) -> None:
    """Let a candidate wait for its inspection; one that is there, or is a version, stays as it is."""
    insert = """
        INSERT INTO candidate (retraining_id, unit, model, event, correlation_id, traceparent, next_try, arrived_at)
        SELECT :id, :unit, :model, CAST(:event AS jsonb), :correlation_id, :traceparent, :at, :at
        WHERE NOT EXISTS (SELECT FROM version WHERE retraining_id = :id)
        ON CONFLICT DO NOTHING
    """
    await session.execute(text(insert), {
        "id": arrival.retraining_id, "unit": arrival.unit, "model": arrival.event.model,
        "event": arrival.event.to_json().decode(), "correlation_id": arrival.correlation_id,
        "traceparent": arrival.traceparent, "at": at,
    })  # fmt: skip


async def due_arrivals(session: AsyncSession, at: datetime) -> list[str]:
    """The candidates to inspect, by the ids of their retrainings: the longest due first, at most 20."""
    select = """
        SELECT retraining_id FROM candidate WHERE state IN ('waiting', 'inspecting') AND next_try <= :at
        ORDER BY next_try, retraining_id LIMIT 20
    """
    return list((await session.scalars(text(select), {"at": at})).all())


async def are_waiting(session: AsyncSession) -> bool:
    """Whether a candidate has not come to its end."""
    select = "SELECT EXISTS (SELECT FROM candidate WHERE state IN ('waiting', 'inspecting'))"
    return bool(await session.scalar(text(select)))


@asynccontextmanager
async def alone(db: Database, retraining_id: str) -> AsyncGenerator[bool]:
    """Whether this process alone may inspect a candidate, until the block ends; the lock of a dead one is free at once.

    No transaction is open meanwhile: an inspection takes minutes.
    """
    lock = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 13))")
    async with db.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        taken = await connection.scalar(lock, {"name": f"candidate {retraining_id}"})
        try:
            yield bool(taken)
        finally:
            # A pooled connection outlives this block, and the lock with it: close the connection for good.
            await connection.invalidate()


async def claim(session: AsyncSession, retraining_id: str, holder: str, at: datetime) -> Arrival | None:
    """Begin the next attempt on a candidate that is locked and due; None where it came to its end meanwhile.

    What another process was inspecting, while nobody holds the lock, was left by one that died: that is counted.
    """
    update = """
        UPDATE candidate SET
            failures = failures + CASE WHEN state = 'inspecting' AND holder <> :holder THEN 1 ELSE 0 END,
            state = 'inspecting', attempt = attempt + 1, holder = :holder, reason = NULL
        WHERE retraining_id = :id AND state IN ('waiting', 'inspecting') AND next_try <= :at
        RETURNING event, unit, correlation_id, traceparent, attempt, failures
    """
    values = {"id": retraining_id, "holder": holder, "at": at}
    row = (await session.execute(text(update), values)).first()
    return Arrival(RetrainingCompleted.model_validate(row[0]), *row[1:]) if row else None


async def put_back(session: AsyncSession, arrival: Arrival, reason: str, next_try: datetime, *, failed: bool) -> None:
    """It could not be inspected now, unless a later attempt holds it: it waits."""
    update = """
        UPDATE candidate SET state = 'waiting', reason = :reason, next_try = :next_try,
            failures = failures + CAST(:failed AS integer)
        WHERE retraining_id = :id AND attempt = :attempt AND state = 'inspecting'
    """
    values = {"id": arrival.retraining_id, "attempt": arrival.attempt, "reason": reason, "next_try": next_try}
    await session.execute(text(update), values | {"failed": int(failed)})


async def end_arrival(
    session: AsyncSession, arrival: Arrival, state: Literal["registered", "refused"], reason: str | None, at: datetime
) -> bool:
    """End a candidate's way, unless a later attempt holds it or did so; answers whether this did."""
    update = """
        UPDATE candidate SET state = :state, reason = :reason, ended_at = :at
        WHERE retraining_id = :id AND attempt = :attempt AND state = 'inspecting' RETURNING 1
    """
    values = {"id": arrival.retraining_id, "attempt": arrival.attempt, "state": state, "reason": reason, "at": at}
    return (await session.execute(text(update), values)).first() is not None


async def supersede(session: AsyncSession, model: str) -> bool:
    """A later candidate of the model is registered: answers whether one had been refused since the last."""
    update = "UPDATE candidate SET state = 'superseded' WHERE model = :model AND state = 'refused' RETURNING 1"
    return (await session.execute(text(update), {"model": model})).first() is not None


def _first(row: Row[Any] | None) -> ModelVersion | None:
    return _version(row) if row else None


def _version(row: Row[Any]) -> ModelVersion:
    candidate = Candidate.model_validate(row.content)
    return ModelVersion(
        row.model, row.version, row.unit, candidate, row.state, row.registered_by, row.registered_at,
        row.retired_by, row.retired_reason,
    )  # fmt: skip


def _json(value: Sequence[Any]) -> str:
    return orjson.dumps(value).decode()
