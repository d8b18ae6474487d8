"""Endpoints: what is published of each, and who served there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from contracts import DeploymentChanged

from ..domain import Deployment, Endpoint
from .deployments import ALIVE, DeploymentRow

_ENDPOINTS = """
    SELECT endpoint.*, topics FROM endpoint
    JOIN (SELECT endpoint, topics FROM endpoint_name) AS name USING (endpoint)
"""


async def lock_endpoint(session: AsyncSession, name: str) -> Endpoint | None:
    """The endpoint, held until the transaction ends; a name that does not exist yet is held too."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 11))"), {"name": name})
    return await endpoint(session, name)


async def endpoint(session: AsyncSession, name: str) -> Endpoint | None:
    """As it was last published, or is about to be."""
    found = await session.execute(text(f"{_ENDPOINTS} WHERE endpoint = :name"), {"name": name})
    row = found.first()
    return _endpoint(row) if row else None


async def endpoints(session: AsyncSession, after: str, limit: int) -> list[Endpoint]:
    """By name; `after` is the last one seen."""
    find = text(f"{_ENDPOINTS} WHERE endpoint > :after ORDER BY endpoint LIMIT :limit")
    return [_endpoint(row) for row in await session.execute(find, {"after": after, "limit": limit})]


async def endpoints_of_version(session: AsyncSession, model: str, number: int) -> list[str]:
    """The endpoints at which this version is asked for or was handed out, in the order in which they are locked."""
    find = select(col(DeploymentRow.endpoint)).distinct().order_by(col(DeploymentRow.endpoint))
    mine = find.where(DeploymentRow.model == model, DeploymentRow.version == number)
    there = col(DeploymentRow.state).in_(ALIVE) | col(DeploymentRow.revision).is_not(None)
    return list((await session.execute(mine.where(there))).scalars())


async def withdrawn(session: AsyncSession, endpoint: str) -> tuple[UUID, ...]:
    """The approvals under which nothing may serve at an endpoint any more, although it was handed out; all of them,
    since a scorer that was away for long may still serve under the oldest."""
    find = """
        SELECT approval_id FROM deployment JOIN model_version USING (model, version)
        WHERE endpoint = :endpoint AND revision IS NOT NULL AND (state = 'revoked' OR retired)
        ORDER BY requested_at, approval_id
    """
    return tuple((await session.execute(text(find), {"endpoint": endpoint})).scalars())


async def save_endpoint(session: AsyncSession, endpoint: Endpoint, desired: DeploymentChanged) -> None:
    """Store the desired state, signed, as it is published."""
    upsert = """
        INSERT INTO endpoint
            (endpoint, unit, use_case, revision, state, streaming, model, version, deployment_id, desired, changed_at)
        VALUES
            (:endpoint, :unit, :use_case, :revision, :state, :streaming, :model, :version, :deployment_id,
             CAST(:desired AS jsonb), :changed_at)
        ON CONFLICT (endpoint) DO UPDATE SET
            use_case = excluded.use_case, revision = excluded.revision, state = excluded.state,
            streaming = excluded.streaming, model = excluded.model, version = excluded.version,
            deployment_id = excluded.deployment_id, desired = excluded.desired, changed_at = excluded.changed_at
    """
    stored = desired if desired.variants else desired.model_copy(update={"variants": (endpoint.variant,)})
    values = {
        "endpoint": endpoint.endpoint, "unit": endpoint.unit, "use_case": endpoint.use_case,
        "revision": endpoint.revision, "state": endpoint.state, "streaming": endpoint.streaming,
        "model": endpoint.variant.model, "version": endpoint.variant.version,
        "deployment_id": endpoint.deployment_id, "desired": stored.to_json().decode(),
        "changed_at": endpoint.changed_at,
    }  # fmt: skip
    await session.execute(text(upsert), values)


def _endpoint(row: Any) -> Endpoint:
    desired = DeploymentChanged.model_validate(row.desired)
    return Endpoint(
        endpoint=row.endpoint, unit=row.unit, use_case=row.use_case, revision=row.revision, state=row.state,
        streaming=row.streaming, variant=desired.variants[0], deployment_id=row.deployment_id,
        changed_at=row.changed_at, monitor=desired.monitor, topics=row.topics, withdrawn=desired.withdrawn,
        beside=desired.variants[1:], routing=desired.routing,
    )  # fmt: skip


async def crown(session: AsyncSession, deployment: Deployment, now: datetime) -> None:
    """Make a deployment the one champion of its endpoint."""
    place = {"endpoint": deployment.endpoint, "id": deployment.id, "unit": deployment.unit, "now": now}
    await session.execute(text("UPDATE serving SET champion = false WHERE endpoint = :endpoint"), place)
    insert = """
        INSERT INTO serving (endpoint, deployment_id, unit, champion, since)
        VALUES (:endpoint, :id, :unit, true, :now)
        ON CONFLICT (endpoint, deployment_id) DO UPDATE SET champion = true, since = :now
    """
    await session.execute(text(insert), place)


async def served(session: AsyncSession, endpoint: str) -> Sequence[UUID]:
    """Deployments that were champion of this endpoint, the latest first."""
    find = "SELECT deployment_id FROM serving WHERE endpoint = :endpoint ORDER BY since DESC"
    return list((await session.execute(text(find), {"endpoint": endpoint})).scalars())
