"""What the governor heard of use cases, versions and endpoints."""

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import DeploymentChanged, ModelRegistered, UseCaseRegistered
from services.governor.domain.retraining import Live


async def save_use_case(session: AsyncSession, event: UseCaseRegistered, at: datetime) -> None:
    """A use case as the catalog told it."""
    upsert = """
        INSERT INTO use_case (use_case, unit, registered_at, document)
        VALUES (:use_case, :unit, :at, CAST(:document AS jsonb))
        ON CONFLICT (use_case) DO UPDATE SET document = excluded.document
    """
    row = {"use_case": event.use_case, "unit": event.unit, "at": at, "document": event.to_json().decode()}
    await session.execute(text(upsert), row)


async def use_case(session: AsyncSession, name: str) -> dict[str, Any] | None:
    """A use case as the gates see it."""
    found = await session.execute(text("SELECT document FROM use_case WHERE use_case = :name"), {"name": name})
    return found.scalar()


async def is_unit(session: AsyncSession, unit: str) -> bool:
    """Whether anything was ever registered in, or told of, this business unit."""
    select = """
        SELECT EXISTS (SELECT FROM use_case WHERE unit = :unit) OR EXISTS (SELECT FROM model_version WHERE unit = :unit)
            OR EXISTS (SELECT FROM alert WHERE unit = :unit)
    """
    return bool((await session.execute(text(select), {"unit": unit})).scalar())


async def save_model(session: AsyncSession, event: ModelRegistered, at: datetime) -> None:
    """A version as the catalog told it."""
    insert = """
        INSERT INTO model_version (model, version, unit, registered_at, document)
        VALUES (:model, :version, :unit, :at, CAST(:document AS jsonb)) ON CONFLICT (model, version) DO NOTHING
    """
    row = {"model": event.model, "version": event.version, "unit": event.unit, "at": at}
    await session.execute(text(insert), row | {"document": event.to_json().decode()})


async def model(session: AsyncSession, name: str, version: int) -> dict[str, Any] | None:
    """The registration of a version, and whether it was retired since."""
    select = """
        SELECT document || jsonb_build_object('retired', retired_at IS NOT NULL)
        FROM model_version WHERE model = :model AND version = :version
    """
    return (await session.execute(text(select), {"model": name, "version": version})).scalar()


async def versions(session: AsyncSession, name: str, after: int, limit: int) -> list[dict[str, Any]]:
    """Versions of a model with their moments, in order, those after `after`."""
    select = """
        SELECT document, registered_at, serving_at, retired_at FROM model_version
        WHERE model = :model AND version > :after ORDER BY version LIMIT :limit
    """
    found = await session.execute(text(select), {"model": name, "after": after, "limit": limit})
    return [dict(row) for row in found.mappings()]


async def retire(session: AsyncSession, name: str, version: int, at: datetime) -> bool:
    """A version is out of service since then; answers whether it is known."""
    update = """
        UPDATE model_version SET retired_at = coalesce(retired_at, :at)
        WHERE model = :model AND version = :version RETURNING 1
    """
    row = {"model": name, "version": version, "at": at}
    return (await session.execute(text(update), row)).first() is not None


async def save_endpoint(session: AsyncSession, event: DeploymentChanged, at: datetime) -> bool:
    """Keep an endpoint's desired state; answers whether it is newer than what was known."""
    upsert = """
        INSERT INTO endpoint AS known (endpoint, unit, use_case, model, version, revision, state, changed_at)
        VALUES (:endpoint, :unit, :use_case, :model, :version, :revision, :state, :at)
        ON CONFLICT (endpoint) DO UPDATE SET
            use_case = excluded.use_case, model = excluded.model, version = excluded.version,
            revision = excluded.revision, state = excluded.state, changed_at = excluded.changed_at
        WHERE known.revision < excluded.revision RETURNING 1
    """
    remove = """
        UPDATE endpoint SET revision = :revision, state = 'removed', changed_at = :at
        WHERE endpoint = :endpoint AND revision < :revision RETURNING 1
    """
    row: dict[str, Any] = {"endpoint": event.endpoint, "revision": event.revision, "at": at}
    if event.state == "removed" or not event.variants:
        return (await session.execute(text(remove), row)).first() is not None
    champion = event.variants[0]
    row |= {"unit": event.unit, "use_case": event.use_case, "model": champion.model, "version": champion.version}
    return (await session.execute(text(upsert), row | {"state": event.state})).first() is not None


async def live(session: AsyncSession, endpoint: str) -> Live | None:
    """What an endpoint serves now."""
    select = """
        SELECT e.endpoint, e.unit, e.use_case, e.model, e.version,
               coalesce((m.document ->> 'retrainable')::boolean, false) AS retrainable
        FROM endpoint e LEFT JOIN model_version m ON m.model = e.model AND m.version = e.version
        WHERE e.endpoint = :endpoint AND e.state = 'serving'
    """
    row = (await session.execute(text(select), {"endpoint": endpoint})).mappings().first()
    return Live(**row) if row else None


async def revision(session: AsyncSession, endpoint: str) -> int | None:
    """The newest revision that was heard of an endpoint, a removed one too; None for one that is not known."""
    select = "SELECT revision FROM endpoint WHERE endpoint = :endpoint"
    return (await session.execute(text(select), {"endpoint": endpoint})).scalar()


async def unit_of_endpoint(session: AsyncSession, endpoint: str) -> str | None:
    """Whose an endpoint is, a removed one too; None for one that is not known."""
    select = "SELECT unit FROM endpoint WHERE endpoint = :endpoint"
    return (await session.execute(text(select), {"endpoint": endpoint})).scalar()


async def now_serving(session: AsyncSession, endpoint: str, versions: tuple[int, ...], at: datetime) -> None:
    """The first time that a replica served these versions."""
    update = """
        UPDATE model_version m SET serving_at = :at FROM endpoint e
        WHERE e.endpoint = :endpoint AND m.model = e.model AND m.version = ANY (:versions) AND m.serving_at IS NULL
    """
    await session.execute(text(update), {"endpoint": endpoint, "versions": list(versions), "at": at})


async def keep_policy(session: AsyncSession, version: str, document: dict[str, Any]) -> None:
    """Keep the policies under their version: a grant names it for ever."""
    insert = "INSERT INTO policy (version, document) VALUES (:version, CAST(:document AS jsonb)) ON CONFLICT DO NOTHING"
    await session.execute(text(insert), {"version": version, "document": orjson.dumps(document).decode()})


async def policy(session: AsyncSession, version: str) -> dict[str, Any] | None:
    """The policies of a version."""
    select = "SELECT document FROM policy WHERE version = :version"
    return (await session.execute(text(select), {"version": version})).scalar()


async def kpis(session: AsyncSession) -> dict[str, Any]:
    """The figures of what the caller may see, in one reading."""
    select = """
        SELECT
            (SELECT count(DISTINCT model) FROM model_version) AS models,
            (SELECT count(*) FROM model_version) AS versions,
            (SELECT count(*) FROM model_version WHERE retired_at IS NOT NULL) AS retired_versions,
            (SELECT count(*) FROM use_case) AS use_cases,
            (SELECT count(*) FROM endpoint WHERE state = 'serving') AS endpoints,
            (SELECT count(*) FROM approval WHERE state = 'pending') AS pending_approvals,
            (SELECT count(*) FROM approval WHERE state IN ('granted', 'revoked')) AS granted_approvals,
            (SELECT count(*) FROM approval WHERE state = 'rejected') AS rejected_approvals,
            (SELECT coalesce(sum(times), 0) FROM alert WHERE kind = 'drift') AS drifts,
            (SELECT count(*) FROM alert WHERE state <> 'resolved') AS open_alerts,
            (SELECT count(*) FROM process WHERE template = 'retraining') AS retrainings,
            (SELECT count(*) FROM process WHERE template = 'retraining' AND state = 'running') AS retrainings_running,
            (SELECT count(*) FROM process WHERE retraining_id IS NOT NULL AND template = 'standard'
                AND outcome = 'in_business') AS promotions,
            (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM serving_at - registered_at))
                FROM model_version WHERE serving_at IS NOT NULL) AS ready_to_business_s,
            (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM decided_at - requested_at))
                FROM approval WHERE decided_at IS NOT NULL) AS request_to_decision_s,
            (SELECT max(extract(epoch FROM now() - m.registered_at)) FROM endpoint e
                JOIN model_version m ON m.model = e.model AND m.version = e.version
                WHERE e.state = 'serving') AS oldest_serving_s
    """
    return dict((await session.execute(text(select))).mappings().one())
