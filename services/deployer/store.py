"""All SQL of the deployer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Column, DateTime, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, SQLModel, col, select

from contracts import DeploymentChanged, ModelRegistered, ReplicaReported, UseCaseRegistered
from services.kit.db import Database
from services.kit.errors import NotFound

from .domain import CHAMPION, Deployment, Endpoint, Topics, readable

_DEPLOYMENT = TypeAdapter(Deployment)
_ALIVE = ("requested", "in_review", "rolling_out", "serving")
_PATIENCE = timedelta(minutes=5)
"""Between two tries to close topics that Kafka refuses to close: a person must do something first."""


def _moment(*, nullable: bool = False) -> Any:
    return Column(DateTime(timezone=True), nullable=nullable)


class DeploymentRow(SQLModel, table=True):
    """A row of `deployment`: the fields of `domain.Deployment`."""

    __tablename__: ClassVar[str] = "deployment"  # pyright: ignore[reportIncompatibleVariableOverride]

    id: UUID = Field(primary_key=True)
    endpoint: str
    use_case: str
    unit: str
    model: str
    version: int
    digest: str
    strategy: str
    streaming: bool
    requested_by: str
    retraining_id: UUID | None = None
    state: str
    reason: str | None = None
    approval_id: UUID | None = None
    grant: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    revision: int | None = None
    correlation_id: str = ""
    variant: str = CHAMPION
    weight: float | None = None
    requested_at: datetime = Field(sa_column=_moment())
    changed_at: datetime = Field(sa_column=_moment())
    settled_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))

    @classmethod
    def of(cls, deployment: Deployment) -> "DeploymentRow":
        """The row of a deployment."""
        values = {name: getattr(deployment, name) for name in cls.model_fields if name != "grant"}
        grant = deployment.grant.model_dump(mode="json") if deployment.grant else None
        return cls(**values, grant=grant)

    def value(self) -> Deployment:
        """The deployment of a row."""
        return _DEPLOYMENT.validate_python({name: getattr(self, name) for name in type(self).model_fields})


async def save_use_case(session: AsyncSession, event: UseCaseRegistered) -> None:
    """Keep what the catalog says; a use case never changes its unit."""
    insert = """
        INSERT INTO use_case (use_case, unit, protected) VALUES (:use_case, :unit, CAST(:protected AS jsonb))
        ON CONFLICT (use_case) DO UPDATE SET protected = excluded.protected
    """
    protected = TypeAdapter(tuple[str, ...]).dump_json(event.protected).decode()
    await session.execute(text(insert), {"use_case": event.use_case, "unit": event.unit, "protected": protected})


async def unit_of_use_case(session: AsyncSession, use_case: str) -> str:
    """Raises NotFound."""
    found = await session.execute(text("SELECT unit FROM use_case WHERE use_case = :name"), {"name": use_case})
    unit = found.scalar()
    if unit is None:
        raise NotFound(f"there is no use case {use_case}")
    return unit


async def save_version(session: AsyncSession, event: ModelRegistered) -> None:
    """Keep a version as it was registered, the first time that is heard."""
    insert = """
        INSERT INTO model_version (model, version, unit, retraining_id, registration)
        VALUES (:model, :version, :unit, :retraining_id, CAST(:registration AS jsonb)) ON CONFLICT DO NOTHING
    """
    values = {
        "model": event.model, "version": event.version, "unit": event.unit,
        "retraining_id": event.training.retraining_id, "registration": event.to_json().decode(),
    }  # fmt: skip
    await session.execute(text(insert), values)


async def version(session: AsyncSession, model: str, number: int) -> tuple[ModelRegistered, bool]:
    """A version as it was registered, and whether it is retired. Raises NotFound."""
    find = "SELECT registration, retired FROM model_version WHERE model = :model AND version = :version"
    row = (await session.execute(text(find), {"model": model, "version": number})).first()
    if row is None:
        raise NotFound(f"there is no model {model} version {number}")
    return ModelRegistered.model_validate(row.registration), row.retired


async def version_of_retraining(session: AsyncSession, retraining_id: UUID) -> ModelRegistered | None:
    """The candidate that a retraining registered, once it is known."""
    find = "SELECT registration FROM model_version WHERE retraining_id = :id"
    row = (await session.execute(text(find), {"id": str(retraining_id)})).first()
    return ModelRegistered.model_validate(row.registration) if row else None


async def retire(session: AsyncSession, model: str, number: int) -> bool:
    """A version must not serve any more; answers whether it is known."""
    update = "UPDATE model_version SET retired = true WHERE model = :model AND version = :version RETURNING 1"
    return (await session.execute(text(update), {"model": model, "version": number})).first() is not None


async def save(session: AsyncSession, deployment: Deployment) -> Deployment:
    """Insert or replace; flushed, so that what is read next sees it."""
    await session.merge(DeploymentRow.of(deployment))
    await session.flush()
    return deployment


async def lock(session: AsyncSession, id: UUID) -> Deployment:
    """A deployment, held until the transaction ends. Raises NotFound."""
    row = (await session.execute(select(DeploymentRow).where(DeploymentRow.id == id).with_for_update())).scalar()
    if row is None:
        raise NotFound(f"there is no deployment {id}")
    return row.value()


async def get(session: AsyncSession, id: UUID) -> Deployment:
    """Raises NotFound."""
    row = await session.get(DeploymentRow, id)
    if row is None:
        raise NotFound(f"there is no deployment {id}")
    return row.value()


async def of_retraining(session: AsyncSession, retraining_id: UUID) -> Deployment | None:
    """The deployment that a retraining led to: one at most."""
    find = select(DeploymentRow).where(DeploymentRow.retraining_id == retraining_id)
    row = (await session.execute(find)).scalar()
    return row.value() if row else None


async def placed(session: AsyncSession, endpoint: str) -> list[Deployment]:
    """The deployments of an endpoint that roll out or serve."""
    find = select(DeploymentRow).where(
        DeploymentRow.endpoint == endpoint, col(DeploymentRow.state).in_(("rolling_out", "serving"))
    )
    return [row.value() for row in (await session.execute(find)).scalars()]


async def flying(session: AsyncSession, endpoint: str) -> list[Deployment]:
    """The deployments of an endpoint that roll out, held until the transaction ends."""
    find = select(DeploymentRow).where(DeploymentRow.endpoint == endpoint, DeploymentRow.state == "rolling_out")
    return [row.value() for row in (await session.execute(find.with_for_update())).scalars()]


async def of_version(session: AsyncSession, endpoint: str, model: str, number: int) -> list[Deployment]:
    """The deployments of a version at an endpoint that are asked for, roll out or serve."""
    find = select(DeploymentRow).where(
        DeploymentRow.endpoint == endpoint, DeploymentRow.model == model, DeploymentRow.version == number,
        col(DeploymentRow.state).in_(_ALIVE),
    )  # fmt: skip
    return [row.value() for row in (await session.execute(find)).scalars()]


async def deployments(
    session: AsyncSession, endpoint: str | None, before: tuple[datetime, UUID] | None, limit: int
) -> list[Deployment]:
    """Newest first; `before` is the place of the last one seen."""
    find = select(DeploymentRow).order_by(col(DeploymentRow.requested_at).desc(), col(DeploymentRow.id).desc())
    if endpoint:
        find = find.where(DeploymentRow.endpoint == endpoint)
    if before:
        at, id = before
        older = (col(DeploymentRow.requested_at) < at) | (
            (col(DeploymentRow.requested_at) == at) & (col(DeploymentRow.id) < id)
        )
        find = find.where(older)
    return [row.value() for row in (await session.execute(find.limit(limit))).scalars()]


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
    there = col(DeploymentRow.state).in_(_ALIVE) | col(DeploymentRow.revision).is_not(None)
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


async def owner(session: AsyncSession, name: str) -> str | None:
    """The business unit whose name this is, whoever asks."""
    find = "SELECT unit FROM endpoint_name WHERE endpoint = :name"
    return (await session.execute(text(find), {"name": name})).scalar()


async def keep_name(session: AsyncSession, endpoint: Endpoint) -> None:
    """An endpoint is there under its name: the name is its unit's, and says how far its topics are."""
    upsert = """
        INSERT INTO endpoint_name (endpoint, unit, topics) VALUES (:endpoint, :unit, :topics)
        ON CONFLICT (endpoint) DO UPDATE SET topics = excluded.topics, forgotten = false
    """
    row = {"endpoint": endpoint.endpoint, "unit": endpoint.unit, "topics": endpoint.topics}
    await session.execute(text(upsert), row)


async def rolling_since(session: AsyncSession, before: datetime) -> list[str]:
    """Endpoints with a deployment that was never decided on and rolls out since that moment or longer."""
    find = """
        SELECT DISTINCT endpoint.endpoint FROM endpoint JOIN deployment USING (endpoint)
        WHERE deployment.state = 'rolling_out' AND settled_at IS NULL AND endpoint.changed_at <= :before
        ORDER BY endpoint.endpoint
    """
    return list((await session.execute(text(find), {"before": before})).scalars())


async def untidy(session: AsyncSession, removed_before: datetime, now: datetime) -> list[str]:
    """Endpoints whose topics must be made or closed, or whose removed state was in the topic before that moment."""
    find = """
        SELECT endpoint FROM endpoint JOIN endpoint_name USING (endpoint)
        WHERE (refused_at IS NULL OR refused_at <= :patience)
          AND topics <> CASE WHEN state = 'serving' AND streaming THEN 'open' ELSE 'closed' END
           OR state = 'removed' AND NOT forgotten AND changed_at <= :before
        ORDER BY endpoint
    """
    values = {"before": removed_before, "patience": now - _PATIENCE}
    return list((await session.execute(text(find), values)).scalars())


async def streaming(session: AsyncSession) -> list[str]:
    """The endpoints whose topics are open, as they should be."""
    find = """
        SELECT endpoint FROM endpoint JOIN endpoint_name USING (endpoint)
        WHERE state = 'serving' AND streaming AND topics = 'open' ORDER BY endpoint
    """
    return list((await session.execute(text(find))).scalars())


async def topics_are(session: AsyncSession, name: str, topics: Topics) -> bool:
    """Note how far an endpoint's topics are; answers whether Kafka had refused that before."""
    update = """
        UPDATE endpoint_name AS name SET topics = :topics, refused_at = NULL
        FROM (SELECT endpoint, refused_at FROM endpoint_name WHERE endpoint = :name) AS before
        WHERE name.endpoint = before.endpoint RETURNING before.refused_at IS NOT NULL
    """
    return bool((await session.execute(text(update), {"name": name, "topics": topics})).scalar())


async def topics_stay(session: AsyncSession, name: str, now: datetime) -> None:
    """Kafka refuses to close an endpoint's topics."""
    update = "UPDATE endpoint_name SET refused_at = :now WHERE endpoint = :name"
    await session.execute(text(update), {"name": name, "now": now})


@asynccontextmanager
async def alone(db: Database, name: str) -> AsyncIterator[bool]:
    """Whether this process may work on an endpoint's topics. No transaction is open meanwhile: Kafka may be slow."""
    key = {"name": f"topics {name}"}
    async with db.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        taken = await connection.execute(text("SELECT pg_try_advisory_lock(hashtextextended(:name, 12))"), key)
        mine = bool(taken.scalar())
        try:
            yield mine
        finally:
            if mine:
                await connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 12))"), key)


async def forget(session: AsyncSession, name: str) -> bool:
    """The endpoint's state leaves the topic; answers whether it was there."""
    update = "UPDATE endpoint_name SET forgotten = true WHERE endpoint = :name AND NOT forgotten RETURNING 1"
    return (await session.execute(text(update), {"name": name})).first() is not None


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


async def save_report(session: AsyncSession, report: ReplicaReported, unit: str) -> None:
    """Keep what a replica last said; an older word never replaces a newer one."""
    upsert = """
        INSERT INTO replica (endpoint, replica, unit, revision, state, reason, reported_at)
        VALUES (:endpoint, :replica, :unit, :revision, :state, :reason, :at)
        ON CONFLICT (endpoint, replica) DO UPDATE SET
            revision = excluded.revision, state = excluded.state, reason = excluded.reason,
            reported_at = excluded.reported_at
        WHERE replica.reported_at <= excluded.reported_at
    """
    values = {
        "endpoint": report.endpoint, "replica": report.replica, "unit": unit, "revision": report.revision,
        "state": report.state, "reason": readable(report.reason) if report.reason else None, "at": report.reported_at,
    }  # fmt: skip
    await session.execute(text(upsert), values)


async def reports(session: AsyncSession, endpoint: str) -> list[ReplicaReported]:
    """What each replica last said, whatever revision it spoke of."""
    find = "SELECT * FROM replica WHERE endpoint = :endpoint ORDER BY replica"
    return [
        ReplicaReported(
            endpoint=row.endpoint, replica=row.replica, revision=row.revision, state=row.state, reason=row.reason,
            slots=0, reported_at=row.reported_at,
        )
        for row in await session.execute(text(find), {"endpoint": endpoint})
    ]  # fmt: skip
