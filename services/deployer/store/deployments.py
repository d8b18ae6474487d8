"""Deployments, one row each."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Column, DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, SQLModel, col, select

from services.kit.errors import NotFound

from ..domain import CHAMPION, Deployment

_DEPLOYMENT = TypeAdapter(Deployment)
ALIVE = ("requested", "in_review", "rolling_out", "serving")
"""States of a deployment that is asked for, rolls out or serves."""


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
        col(DeploymentRow.state).in_(ALIVE),
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
