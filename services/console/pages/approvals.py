"""Approvals: what waits for a decision, the facts of its gates, and deciding."""

import asyncio
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse

from .shell import Person, Shell


def router(shell: Shell) -> APIRouter:
    """`/approvals`."""
    api = APIRouter(include_in_schema=False)

    @api.get("/approvals")
    async def approvals(request: Request, me: Person) -> HTMLResponse:
        facts = await _facts(shell, request)
        return shell.page(request, "approvals.html", **facts, title="Approvals")

    @api.get("/parts/approvals")
    async def waiting(request: Request, me: Person) -> HTMLResponse:
        return shell.page(request, "approval_list.html", **await _facts(shell, request))

    @api.post("/approvals/{approval}/decision")
    async def decide(
        request: Request,
        me: Person,
        approval: UUID,
        decision: Annotated[Literal["grant", "reject"], Form()],
        reason: Annotated[str, Form(max_length=2000)] = "",
    ) -> HTMLResponse:
        body = {"decision": decision, "reason": reason}
        answer = await shell.gateway.tell(request, "governor", f"/v1/approvals/{approval}/decision", body)
        if answer.ok:
            return shell.page(request, "decided.html", approval=approval, decision=decision, answer=answer)
        found = await shell.gateway.ask(request, "governor", f"/v1/approvals/{approval}")
        return shell.page(request, "approval.html", a=found.data if found.ok else {"id": approval},
                          problem=answer.problem, reason=reason)  # fmt: skip

    return api


async def _facts(shell: Shell, request: Request) -> dict[str, Any]:
    pending, decided = await asyncio.gather(
        shell.gateway.ask(request, "governor", "/v1/approvals", state="pending", limit=50),
        shell.gateway.ask(request, "governor", "/v1/approvals", limit=30),
    )
    done = [approval for approval in decided.items if approval.get("state") != "pending"]
    return {"pending": pending, "decided": done, "earlier": decided}
