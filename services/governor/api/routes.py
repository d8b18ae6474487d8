"""Routes of alerts over HTTP: who is told of what."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from contracts import Name
from services.governor.domain.routing import Channel, Kind, Match, Route, Severity, Step, check
from services.governor.store.routes import Kept
from services.governor.usecases import Routes, Telling
from services.governor.usecases.routes import unit_of
from services.kit.auth import allow
from services.kit.connections import Address, UrlPath
from services.kit.http import Body, Page, Who
from services.kit.service import router as new_router

from .inputs import AlertKind, Text, Unit
from .messages import MessageView

_Seconds = Annotated[float, Field(ge=0, le=7 * 86_400)]


class ChannelBody(Body):
    """One way out."""

    kind: Kind
    connection: Name
    """An administrator's: of the kind `https` (for webhooks with `signing`), for e-mail `smtp`."""
    path: UrlPath = ""
    """Below the connection's URL; an e-mail has none."""
    to: list[Address] = Field(default=[], max_length=50)
    """Of an e-mail: its recipients, whom the connection must allow."""


class StepBody(Body):
    """Who is told together, and when."""

    channels: list[ChannelBody] = Field(min_length=1, max_length=20)
    after_s: _Seconds = 0.0
    """After the alert was raised, or the step before was told: for what nobody acknowledged until then."""


class MatchBody(Body):
    """Which alerts; a list that is empty or left out lets all of them through."""

    endpoints: list[Name] = Field(default=[], max_length=500)
    kinds: list[AlertKind] = Field(default=[], max_length=100)
    severities: list[Severity] = Field(default=[], max_length=3)
    use_cases: list[Name] = Field(default=[], max_length=500)


class RouteBody(Body):
    """Which alerts go to whom."""

    unit: Unit | None = None
    """Whose alerts; left out: the caller's unit. `*`: those of every unit."""
    match: MatchBody = MatchBody()
    steps: list[StepBody] = Field(min_length=1, max_length=10)
    group_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Alerts about one subject within so much time are one message."""

    def route(self, name: str, unit: str) -> Route:
        """As the domain has it. Raises Invalid."""
        made = Route(
            name=name, unit=unit, match=Match.model_validate(self.match.model_dump()), group_s=self.group_s,
            steps=tuple(
                Step(channels=tuple(map(_channel, step.channels)), after_s=step.after_s)
                for step in self.steps
            ),
        )  # fmt: skip
        check(made)
        return made


def _channel(said: ChannelBody) -> Channel:
    return Channel(kind=said.kind, connection=said.connection, path=said.path, to=tuple(said.to))


class RouteView(BaseModel):
    """A route, and who changed it last."""

    name: str
    unit: str
    match: dict[str, Any] = {}
    steps: list[dict[str, Any]] = []
    group_s: float | None = None
    problem: str | None = None
    """Why this version cannot read it: it tells nobody until it is set anew."""
    changed_by: str
    changed_at: datetime

    @classmethod
    def of(cls, kept: Kept) -> "RouteView":
        """As a caller sees it."""
        said = kept.route.model_dump(mode="json") if kept.route else {"problem": kept.problem}
        who = {"changed_by": kept.changed_by, "changed_at": kept.changed_at}
        return cls.model_validate({"name": kept.name, "unit": kept.unit, **said, **who})


def router(alert_routes: Routes, telling: Telling) -> APIRouter:
    """`/v1/alert-routes`."""
    routes = new_router(prefix="/v1/alert-routes", tags=["alerts"])

    @routes.get("")
    async def page(
        caller: Who, limit: Annotated[int, Query(ge=1, le=500)] = 50, cursor: Text | None = None
    ) -> Page[RouteView]:
        allow(caller, "governance.read")
        found = await alert_routes.page(limit, cursor)
        return Page[RouteView](items=[RouteView.of(kept) for kept in found.items], next=found.next)

    @routes.get("/{name}")
    async def get(name: Name, caller: Who) -> RouteView:
        allow(caller, "governance.read")
        return RouteView.of(await alert_routes.get(name))

    @routes.put("/{name}", responses={201: {"model": RouteView}})
    async def put(name: Name, body: RouteBody, caller: Who, response: Response) -> RouteView:
        """Make it, or put this in place of what it says; what is under way goes on along the new steps."""
        allow(caller, "alert.configure")
        kept, is_new = await alert_routes.put(caller, body.route(name, unit_of(caller, body.unit)))
        response.status_code = 201 if is_new else 200
        return RouteView.of(kept)

    @routes.delete("/{name}", status_code=204)
    async def remove(name: Name, caller: Who) -> None:
        allow(caller, "alert.configure")
        await alert_routes.remove(caller, name)

    @routes.post("/{name}/test", status_code=202)
    async def test(name: Name, caller: Who) -> Page[MessageView]:
        """Send a test to every channel of it; `/v1/alert-messages` tells what became of each."""
        allow(caller, "alert.configure")
        return Page[MessageView](items=[MessageView.of(shown) for shown in await telling.test(caller, name)])

    return routes
