"""Models, one model, one version."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from contracts import Name
from services.console.gateway import Answer

from .shell import Person, Shell

_MODELS, _VERSIONS = 100, 50


def router(shell: Shell) -> APIRouter:
    """`/models`, the page of each, and of each version."""
    api = APIRouter(include_in_schema=False)

    @api.get("/models")
    async def models(request: Request, me: Person, query: str = "", cursor: str = "") -> HTMLResponse:
        found = await shell.gateway.ask(
            request, "catalog", "/v1/models", query=query[:200], cursor=cursor, limit=_MODELS
        )
        part = request.headers.get("hx-target", "").endswith("model-list")
        template = "model_list.html" if part else "models.html"
        return shell.page(request, template, models=found, query=query, below=cursor, title="Models")

    @api.get("/models/{model}")
    async def model(request: Request, me: Person, model: Name, cursor: str = "") -> HTMLResponse:
        found = await shell.gateway.ask(request, "catalog", f"/v1/models/{model}", cursor=cursor, limit=_VERSIONS)
        status = 200 if found.ok else found.status
        return shell.page(request, "model.html", status, model=found, name=model, below=cursor, title=model)

    @api.get("/models/{model}/versions/{version}")
    async def version(request: Request, me: Person, model: Name, version: int) -> HTMLResponse:
        at = f"/v1/models/{model}/versions/{version}"
        found, scan, lineage, card, environment = await asyncio.gather(
            *(
                shell.gateway.ask(request, "catalog", at + part)
                for part in ("", "/scan", "/lineage", "/card", "/environment")
            )
        )
        return shell.page(
            request, "version.html", 200 if found.ok else found.status, found=found, scan=scan, card=card,
            lineage=_columns(lineage), environment=environment, name=model, number=version,
            title=f"{model} v{version}",
        )  # fmt: skip

    return api


def _columns(lineage: Answer) -> list[dict[str, Any]]:
    """The lineage as sentences: each edge with the labels of both its ends."""
    if not lineage.ok:
        return []
    labels = {node["id"]: node for node in lineage.data.get("nodes", [])}
    return [
        {"kind": edge["kind"], "source": labels.get(edge["source"], {}), "target": labels.get(edge["target"], {})}
        for edge in lineage.data.get("edges", [])
    ]
