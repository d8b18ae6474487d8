"""Alerts and drift: what departed from where it should be, and who looks at it."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse

from .shell import Person, Shell, tried


def router(shell: Shell) -> APIRouter:
    """`/alerts`."""
    api = APIRouter(include_in_schema=False)

    @api.get("/alerts")
    async def alerts(request: Request, me: Person) -> HTMLResponse:
        template = "alert_list.html" if "hx-request" in request.headers else "alerts.html"
        return shell.page(request, template, **await _facts(shell, request, me), title="Alerts and drift")

    @api.post("/alerts/{alert}/acknowledge")
    async def acknowledge(request: Request, me: Person, alert: UUID) -> HTMLResponse:
        answer = await shell.gateway.tell(request, "governor", f"/v1/alerts/{alert}/acknowledge", {})
        return shell.page(request, "alert_list.html", **await _facts(shell, request, me), answer=answer)

    @api.post("/alerts/{alert}/close")
    async def close(
        request: Request, me: Person, alert: UUID, reason: Annotated[str, Form(max_length=2000)] = ""
    ) -> HTMLResponse:
        answer = await shell.gateway.tell(request, "governor", f"/v1/alerts/{alert}/close", {"reason": reason})
        return shell.page(request, "alert_list.html", **await _facts(shell, request, me), answer=answer)

    return api


async def _facts(shell: Shell, request: Request, me: Any) -> dict[str, Any]:
    alerts, drifts = await asyncio.gather(
        shell.gateway.ask(request, "governor", "/v1/alerts", limit=100),
        tried(shell.console.latest(me, request, ["drift.detected"], 30)),
    )
    return {"alerts": alerts, "drifts": drifts}
