"""The overview: the loop with its live numbers, key figures, and what needs a person."""

import asyncio
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from services.console.gateway import Answer
from services.console.usecases import Console
from services.kit.context import Caller

from .shell import Person, Shell, tried

TICKER = (
    "model.registered", "model.retired", "usecase.registered", "deployment.requested", "deployment.changed",
    "approval.requested", "approval.granted", "approval.rejected", "drift.detected", "retraining.requested",
    "retraining.completed", "alert.raised", "alert.resolved",
)  # fmt: skip
_RECENT = 12


def router(shell: Shell) -> APIRouter:
    """`/`, and the parts of pages that refresh themselves."""
    api = APIRouter(include_in_schema=False)

    @api.get("/")
    async def overview(request: Request, me: Person) -> HTMLResponse:
        facts, recent = await asyncio.gather(
            _facts(shell, request, me), tried(shell.console.latest(me, request, TICKER, _RECENT))
        )
        return shell.page(
            request, "overview.html", **facts, recent=recent.data, ticker=",".join(TICKER), title="Overview"
        )

    @api.get("/parts/overview")
    async def live(request: Request, me: Person) -> HTMLResponse:
        return shell.page(request, "overview_live.html", **await _facts(shell, request, me))

    @api.get("/parts/nav")
    async def nav(request: Request, me: Person, at: str = "/") -> HTMLResponse:
        approvals, alerts = await asyncio.gather(
            shell.gateway.ask(request, "governor", "/v1/approvals", state="pending", limit=100),
            shell.gateway.ask(request, "governor", "/v1/alerts", state="open", limit=100),
        )
        return shell.page(request, "nav.html", at=at, pending=len(approvals.items), alerts=len(alerts.items))

    return api


async def _facts(shell: Shell, request: Request, me: Caller) -> dict[str, Any]:
    ask = shell.gateway.ask
    answers, services = await asyncio.gather(
        asyncio.gather(
            ask(request, "catalog", "/v1/models", limit=200),
            ask(request, "deployer", "/v1/endpoints", limit=200),
            ask(request, "governor", "/v1/approvals", state="pending", limit=100),
            ask(request, "governor", "/v1/alerts", state="open", limit=50),
            ask(request, "retrainer", "/v1/retrainings", limit=100),
            _topics(shell.console, me, request),
        ),
        shell.gateway.states(),
    )
    models, endpoints, approvals, alerts, retrainings, topics = answers
    by_name = {state.topic: state for state in topics.data} if topics.ok else {}
    return {
        "models": models, "endpoints": endpoints, "approvals": approvals, "alerts": alerts, "services": services,
        "retrainings": retrainings, "topics": topics, "topic": by_name, "letters": _letters(topics),
        "lag": _lag(topics),
        "serving": [e for e in endpoints.items if e.get("state") == "serving"],
        "away": [s for s in services if not s.ready],
    }  # fmt: skip


async def _topics(console: Console, me: Caller, request: Request) -> Answer:
    return await tried(console.topics(me, request))


def _letters(topics: Answer) -> int:
    return sum(state.dead_letters for state in topics.data if state.topic.startswith("dlq."))


def _lag(topics: Answer) -> int:
    lags: Iterable[int] = (group.lag for state in topics.data for group in state.groups)
    return max(lags, default=0)
