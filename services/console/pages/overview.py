"""The overview: the loop with its live numbers, key figures, and what needs a person."""

import asyncio
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from services.console.gateway import Answer
from services.console.usecases import Console
from services.kit.context import Caller
from services.kit.topics import TopicState

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
        return shell.page(request, "overview.html", **facts, recent=recent, ticker=",".join(TICKER), title="Overview")

    @api.get("/parts/overview")
    async def live(request: Request, me: Person) -> HTMLResponse:
        return shell.page(request, "overview_live.html", **await _facts(shell, request, me))

    @api.get("/parts/nav")
    async def nav(request: Request, me: Person, at: str = "/") -> HTMLResponse:
        approvals, alerts = await asyncio.gather(
            shell.gateway.ask(request, "governor", "/v1/approvals", state="pending", limit=100),
            shell.gateway.ask(request, "governor", "/v1/alerts", state="open", limit=100),
        )
        badges = {"approvals": approvals.items and approvals.count, "alerts": alerts.items and alerts.count}
        return shell.page(request, "nav.html", at=at, badges=badges)

    return api


async def _facts(shell: Shell, request: Request, me: Caller) -> dict[str, Any]:
    ask = shell.gateway.ask
    answers, services = await asyncio.gather(
        asyncio.gather(
            ask(request, "catalog", "/v1/models", limit=200),
            ask(request, "deployer", "/v1/endpoints", limit=200),
            ask(request, "governor", "/v1/approvals", state="pending", limit=100),
            ask(request, "governor", "/v1/alerts", state=["open", "acknowledged"], limit=200),
            ask(request, "retrainer", "/v1/retrainings", limit=100),
            _topics(shell.console, me, request),
        ),
        shell.gateway.states(),
    )
    models, endpoints, approvals, alerts, retrainings, topics = answers
    by_name, letters = {state.topic: state for state in topics.data}, _letters(topics)
    return {
        "models": models, "endpoints": endpoints, "approvals": approvals, "alerts": alerts, "services": services,
        "retrainings": retrainings, "topics": topics, "topic": by_name, "letters": letters, "lag": _lag(topics),
        "unseen": _unseen(approvals=approvals, alerts=alerts, dead_letters=letters),
        "fresh": [a for a in alerts.items if a.get("state") == "open"],
        "serving": [e for e in endpoints.items if e.get("state") == "serving"],
        "away": [s for s in services if not s.ready],
    }  # fmt: skip


async def _topics(console: Console, me: Caller, request: Request) -> Answer:
    return await tried(console.topics(me, request))


def _letters(topics: Answer) -> Answer:
    """How many dead letters wait that the person may see, or why they may see none."""
    if not topics.ok:
        return topics
    states: list[TopicState] = topics.data
    counts = [s.dead_letters for s in states if s.topic.startswith("dlq.") and s.dead_letters is not None]
    return Answer(sum(counts)) if counts else Answer(None, 403, "Your roles do not open dead letters.")


def _lag(topics: Answer) -> Answer:
    lags: Iterable[int] = (group.lag for state in topics.data for group in state.groups)
    return Answer(max(lags, default=0)) if topics.ok else topics


def _unseen(**answers: Answer) -> list[str]:
    """What is not shown to this person now: of that nothing can be said, not even that there is none."""
    return [name for name, answer in answers.items() if not answer.ok]
