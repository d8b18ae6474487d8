"""Alerts and drift: what departed from where it should be, who looks at it, and who was told."""

import asyncio
from collections import defaultdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse

from .shell import Person, Shell, tried

_DRIFTS = 30


def router(shell: Shell) -> APIRouter:
    """`/alerts`."""
    api = APIRouter(include_in_schema=False)

    @api.get("/alerts")
    async def alerts(request: Request, me: Person) -> HTMLResponse:
        template = "alert_list.html" if "hx-request" in request.headers else "alerts.html"
        return shell.page(request, template, **await _facts(shell, request, me), title="Alerts and drift")

    @api.post("/alerts/{alert}/acknowledge")
    async def acknowledge(
        request: Request, me: Person, alert: UUID, comment: Annotated[str, Form(max_length=2000)] = ""
    ) -> HTMLResponse:
        said = {"comment": comment} if comment.strip() else {}
        answer = await shell.gateway.tell(request, "governor", f"/v1/alerts/{alert}/acknowledge", said)
        return shell.page(request, "alert_list.html", **await _facts(shell, request, me), answer=answer)

    @api.post("/alerts/{alert}/close")
    async def close(
        request: Request, me: Person, alert: UUID, reason: Annotated[str, Form(max_length=2000)] = ""
    ) -> HTMLResponse:
        answer = await shell.gateway.tell(request, "governor", f"/v1/alerts/{alert}/close", {"reason": reason})
        return shell.page(request, "alert_list.html", **await _facts(shell, request, me), answer=answer)

    return api


async def _facts(shell: Shell, request: Request, me: Any) -> dict[str, Any]:
    alerts, messages, silences, drifts = await asyncio.gather(
        shell.gateway.ask(request, "governor", "/v1/alerts", limit=100),
        shell.gateway.ask(request, "governor", "/v1/alert-messages", limit=300),
        shell.gateway.ask(request, "governor", "/v1/alert-silences", limit=50, state="active"),
        tried(shell.console.latest(me, request, ["drift.detected"], _DRIFTS)),
    )
    return {"alerts": alerts, "told": told(messages.items), "messages": messages, "silences": silences,
            "drifts": drifts, "most": _DRIFTS}  # fmt: skip


def told(messages: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """By alert, who was told of it, oldest first: to whom, how that stands, since when, and why not."""
    by_alert: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in reversed(messages):
        shown = {
            "to": receiver(message["channel"]), "state": message["state"], "reason": message["reason"],
            "at": message["ended_at"] or message["gathered_at"],
        }  # fmt: skip
        for alert in message["alerts"]:
            by_alert[alert].append(shown)
    return by_alert


def receiver(channel: dict[str, Any]) -> str:
    """A channel as a person knows it: those who get the mail, else the connection and where behind it."""
    return ", ".join(channel.get("to", ())) or channel["connection"] + channel.get("path", "")
