"""Silences of alerts: maintenance windows, made and ended by those who may."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse

from services.console.gateway import Answer
from services.kit.context import Caller

from .shell import Person, Shell, may

_AT = "/v1/alert-silences"
_CONFIGURE = "alert.configure"
_FIELDS = ("endpoint", "kind", "unit", "starts_at", "ends_at", "comment")
_OPEN, _OVER = 500, 100
_LASTS = timedelta(hours=2)
_Text = Annotated[str, Form(max_length=200)]


def router(shell: Shell) -> APIRouter:
    """`/alerts/silences`."""
    api = APIRouter(prefix="/alerts/silences", include_in_schema=False)
    ask, tell = shell.gateway.ask, shell.gateway.tell

    async def facts(request: Request, me: Caller) -> dict[str, Any]:
        silences, over = await asyncio.gather(
            ask(request, "governor", _AT, limit=_OPEN, state=("active", "coming")),
            ask(request, "governor", _AT, limit=_OVER, state="over"),
        )
        shown = sorted(silences.items, key=lambda each: each["state"] != "active")
        return {"silences": silences, "shown": shown, "over": over, "may": lambda unit: may(me, _CONFIGURE, unit)}

    @api.get("")
    async def page(request: Request, me: Person, endpoint: str = "") -> HTMLResponse:
        said = _empty(me) | {"endpoint": endpoint[:200]}
        return shell.page(request, "silences.html", **await facts(request, me), said=said, units=sorted(me.units),
                          configures=may(me, _CONFIGURE), title="Silences")  # fmt: skip

    @api.post("")
    async def make(
        request: Request, me: Person, endpoint: _Text = "", kind: _Text = "", unit: _Text = "", starts_at: _Text = "",
        ends_at: _Text = "", comment: Annotated[str, Form(max_length=2000)] = "",
    ) -> HTMLResponse:  # fmt: skip
        typed = (endpoint, kind, unit, starts_at, ends_at, comment)
        said = {name: value.strip() for name, value in zip(_FIELDS, typed, strict=True)}
        answer = await tell(request, "governor", _AT, _body(said))
        wrong, reason = answer.refuses(_FIELDS)
        shown = said if wrong or not answer.ok else _empty(me)
        return shell.page(request, "silence_room.html", **await facts(request, me), said=shown, wrong=wrong,
                          reason=reason, answer=answer, done=_done(answer), units=sorted(me.units),
                          configures=may(me, _CONFIGURE))  # fmt: skip

    @api.post("/{silence}/end")
    async def end(request: Request, me: Person, silence: UUID) -> HTMLResponse:
        answer = await tell(request, "governor", f"{_AT}/{silence}/end", {})
        return shell.page(request, "silence_list.html", **await facts(request, me), ended=answer)

    return api


def _empty(me: Caller) -> dict[str, str]:
    """A window from now on, of the unit that somebody is at home in."""
    ends_at = (datetime.now(UTC) + _LASTS).strftime("%Y-%m-%dT%H:%M")
    return dict.fromkeys(_FIELDS, "") | {"ends_at": ends_at, "unit": sorted(me.units)[0] if len(me.units) == 1 else ""}


def _body(said: dict[str, str]) -> dict[str, Any]:
    """What the governor is asked for. A unit is told for a kind alone: an endpoint has its own."""
    body: dict[str, Any] = {name: value for name, value in said.items() if value}
    if said["endpoint"]:
        body.pop("unit", None)
    return body | {name: f"{body[name]}Z" for name in ("starts_at", "ends_at") if name in body}


def _done(answer: Answer) -> str:
    if not answer.ok:
        return ""
    about = " of ".join(filter(None, (answer.data["kind"], answer.data["endpoint"])))
    return (
        f"Nobody is told of {about} until {answer.data['ends_at'][:16].replace('T', ' ')} UTC, but what is open then."
    )
