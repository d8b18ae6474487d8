"""The audit ledger: what was done, by whom, and whether it is untouched."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from .shell import Person, Shell


def router(shell: Shell) -> APIRouter:
    """`/audit`."""
    api = APIRouter(include_in_schema=False)

    @api.get("/audit")
    async def audit(request: Request, me: Person, subject: str = "", actor: str = "", cursor: str = "") -> HTMLResponse:
        rows = await shell.gateway.ask(
            request, "governor", "/v1/audit", subject=subject, actor=actor, cursor=cursor, limit=50
        )
        template = "audit_rows.html" if "hx-request" in request.headers else "audit.html"
        return shell.page(request, template, rows=rows, subject=subject, actor=actor, title="Audit")

    @api.post("/audit/verify")
    async def verify(request: Request, me: Person) -> HTMLResponse:
        answer = await shell.gateway.tell(request, "governor", "/v1/audit/verify", {})
        return shell.page(request, "verified.html", answer=answer)

    return api
