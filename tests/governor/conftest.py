"""A governor over a database of the test's own; events are handed to it as the bus does."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text
from starlette.responses import Response

from contracts import AuditRecorded, DeploymentRequested, Envelope, Event, Service, event_of
from services.governor import api
from services.governor.app import compose
from services.governor.handlers import subscriptions
from services.governor.settings import GovernorSettings
from services.governor.usecases import Governor
from services.kit import bus
from services.kit.context import Caller, Claim, Context, system, use
from services.kit.db import AlreadyHandled, Database
from services.kit.ids import now, uuid7
from services.kit.service import Parts, application
from services.kit.tokens import mint
from tests.governor import builders
from tests.kit.servers import Server, server


@dataclass
class House:
    """The governor with its database, and what a test does around it."""

    settings: GovernorSettings
    governor: Governor
    db: Database
    app: Any = field(default=None)

    async def hear(
        self, event: Event, unit: str = "retail", id: str | None = None, *, said_at: datetime | None = None,
        story: str | None = None, source: str = "/fairlead/test",
    ) -> str:  # fmt: skip
        """Deliver an event as the bus does; answers its id. A repeat has no effect."""
        about = Envelope(
            id=id or str(uuid7()), source=source, type=event.type(), subject=event.key,
            time=said_at or now(), dataschema=event.schema_id(), unit=unit, actor="test",
            correlation_id=story or str(uuid7()), traceparent="",
        )  # fmt: skip
        (subscription,) = [s for s in subscriptions(self.governor) if s.event is type(event)]
        token = bus._envelope.set(about)
        claim = Claim(f"{about.source} {about.id}")
        try:
            with use(Context(system("governor", unit), about.correlation_id, claim=claim)):
                await subscription.handle(event)
        except AlreadyHandled:
            pass
        finally:
            bus._envelope.reset(token)
        return about.id

    async def fire_timers(self) -> None:
        """What the governor does every few seconds, and when told that some process is due."""
        with use(Context(system("governor"))):
            await self.governor.life_cycle.wake_all()

    async def asked(self, **changes: Any) -> DeploymentRequested:
        """A sound request, with all that it refers to."""
        await self.hear(builders.use_case())
        await self.hear(builders.model())
        event = builders.deployment(**changes)
        await self.hear(event)
        return event

    async def in_business(self, **changes: Any) -> DeploymentRequested:
        """A version that serves."""
        event = await self.asked(**changes)
        await self.promote(event)
        return event

    async def promote(self, event: DeploymentRequested, revision: int = 1) -> None:
        """A person grants a request, and the deployer rolls it out."""
        approval = await self.approval_of(event)
        with use(Context(person("compliance", "*"))):
            granted = await self.governor.approvals.decide(approval, person("compliance", "*"), "grant", "fine")
        assert granted.grant
        await self.hear(builders.changed(granted.grant, revision=revision))
        await self.hear(builders.settled(event))

    async def approval_of(self, event: DeploymentRequested) -> UUID:
        found = await self.rows(f"SELECT id FROM approval WHERE deployment_id = '{event.deployment_id}'")
        return found[0]["id"]

    async def said(self, *kinds: type[Event]) -> list[Event]:
        """What went into the outbox, in order; of these kinds, or everything but audit rows."""
        rows = await self.rows("SELECT topic, value, headers FROM outbox ORDER BY number")
        events = [(event_of(row["topic"]), row["value"]) for row in rows]
        told = [kind.from_json(value.encode()) for kind, value in events if kind and kind.type() != "audit.recorded"]
        return [event for event in told if not kinds or isinstance(event, kinds)]

    async def audit(self) -> list[AuditRecorded]:
        """The audit rows of what was done, in order."""
        rows = await self.rows("SELECT value FROM outbox WHERE audit IS NOT NULL ORDER BY number")
        return [AuditRecorded.from_json(row["value"].encode()) for row in rows]

    async def execute(self, statement: str, **values: Any) -> None:
        with use(Context(system("governor"))):
            async with self.db.reading() as session:
                await session.execute(text(statement), values)

    async def rows(self, select: str) -> list[dict[str, Any]]:
        with use(Context(system("governor"))):
            async with self.db.reading() as session:
                return [dict(row) for row in (await session.execute(text(select))).mappings()]

    def client(self, who: str, *units: str, roles: tuple[str, ...] = (), kind: Any = "person") -> httpx.AsyncClient:
        """HTTP as somebody."""
        token = mint(self.settings.keys / "issuer.key", who, list(roles or (who,)), list(units) or ["retail"], kind)
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://governor",
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip


def person(actor: str, *units: str) -> Caller:
    return Caller(actor, "person", frozenset({actor}), frozenset(units or ("retail",)))


@pytest.fixture
async def house(home: Path, service_url: Callable[[Service], str]) -> AsyncIterator[House]:
    settings = GovernorSettings(home=home, service_database=service_url("governor"))
    db = Database(settings.service_database, "governor", pool=10)
    governor = compose(settings, db)
    house = House(settings, governor, db)
    house.app = application(
        Parts(service="governor", settings=settings, db=db, routers=api.routers(settings, governor))
    )
    yield house
    await db.close()


@pytest.fixture
async def receiver(house: House) -> AsyncIterator[Server]:
    """A real server that the platform may call as `ops`, and takes everything."""
    from tests.governor.receiving import connect  # it needs the house

    async with server() as running:
        running.answer = lambda _: Response(status_code=204)
        connect(house, running.url)
        yield running
