"""Endpoints: what serves, how it came to that, and whether it is still right."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from contracts import Name

from .shell import Person, Shell

_WINDOWS = 200
_MOVED = 12


def router(shell: Shell) -> APIRouter:
    """`/endpoints` and the page of each."""
    api = APIRouter(include_in_schema=False)
    ask = shell.gateway.ask

    @api.get("/endpoints")
    async def endpoints(request: Request, me: Person) -> HTMLResponse:
        found, waiting = await asyncio.gather(
            ask(request, "deployer", "/v1/endpoints", limit=200), ask(request, "deployer", "/v1/deployments", limit=20)
        )
        drifts = await asyncio.gather(
            *(ask(request, "monitor", f"/v1/monitors/{e['endpoint']}/drift") for e in found.items)
        )
        drift = {e["endpoint"]: d for e, d in zip(found.items, drifts, strict=True)}
        template = "endpoint_list.html" if "hx-request" in request.headers else "endpoints.html"
        return shell.page(request, template, endpoints=found, drift=drift, deployments=waiting, title="Endpoints")

    @api.get("/endpoints/{endpoint}")
    async def endpoint(request: Request, me: Person, endpoint: Name) -> HTMLResponse:
        facts = await _facts(shell, request, endpoint)
        found = facts["found"]
        return shell.page(request, "endpoint.html", 200 if found.ok else found.status, **facts, title=endpoint)

    @api.get("/endpoints/{endpoint}/parts/live")
    async def live(request: Request, me: Person, endpoint: Name) -> HTMLResponse:
        return shell.page(request, "endpoint_live.html", **await _facts(shell, request, endpoint))

    @api.get("/endpoints/{endpoint}/parts/groups")
    async def groups(request: Request, me: Person, endpoint: Name) -> HTMLResponse:
        told = await ask(request, "monitor", f"/v1/monitors/{endpoint}/drift/segments", limit=_MOVED + 1)
        return shell.page(request, "endpoint_groups.html", told=told, moved=moved_in_groups(told.data), name=endpoint)

    @api.get("/endpoints/{endpoint}/parts/influence")
    async def influence(request: Request, me: Person, endpoint: Name) -> HTMLResponse:
        told = await ask(request, "monitor", f"/v1/monitors/{endpoint}/drift/attributions")
        return shell.page(request, "endpoint_influence.html", told=told)

    @api.get("/endpoints/{endpoint}/parts/rules")
    async def rules(request: Request, me: Person, endpoint: Name) -> HTMLResponse:
        told = await ask(request, "monitor", f"/v1/monitors/{endpoint}/rules", windows=_WINDOWS)
        return shell.page(request, "endpoint_rules.html", told=told, name=endpoint)

    @api.get("/endpoints/{endpoint}/series")
    async def series(request: Request, me: Person, endpoint: Name) -> JSONResponse:
        windows = await ask(request, "monitor", f"/v1/monitors/{endpoint}/windows", limit=_WINDOWS)
        return JSONResponse({"problem": windows.problem, "windows": points_of(windows.items)})

    @api.post("/endpoints/{endpoint}/rollback")
    async def rollback(request: Request, me: Person, endpoint: Name, variant: Name | None = None) -> HTMLResponse:
        body = {"variant": variant} if variant else {}
        answer = await shell.gateway.tell(request, "deployer", f"/v1/endpoints/{endpoint}/rollback", body)
        done = f"{endpoint} goes back to version {answer.data.get('version')}." if answer.ok else ""
        return shell.page(request, "said.html", answer=answer, done=done)

    @api.post("/endpoints/{endpoint}/promote")
    async def promote(request: Request, me: Person, endpoint: Name, variant: Name) -> HTMLResponse:
        answer = await shell.gateway.tell(
            request, "deployer", f"/v1/endpoints/{endpoint}/promote", {"variant": variant}
        )  # fmt: skip
        done = f"{endpoint} moves on to version {answer.data.get('version')}." if answer.ok else ""
        return shell.page(request, "said.html", answer=answer, done=done)

    @api.post("/endpoints/{endpoint}/retrain")
    async def retrain(request: Request, me: Person, endpoint: Name) -> HTMLResponse:
        body = {"endpoint": endpoint, "reason": f"asked for by {me.actor} in the console"}
        answer = await shell.gateway.tell(request, "retrainer", "/v1/retrainings", body)
        return shell.page(request, "said.html", answer=answer, done="A retraining was asked for.")

    return api


async def _facts(shell: Shell, request: Request, endpoint: str) -> dict[str, Any]:
    ask = shell.gateway.ask
    found, deployments, drift, windows = await asyncio.gather(
        ask(request, "deployer", f"/v1/endpoints/{endpoint}"),
        ask(request, "deployer", "/v1/deployments", endpoint=endpoint, limit=12),
        ask(request, "monitor", f"/v1/monitors/{endpoint}/drift"),
        ask(request, "monitor", f"/v1/monitors/{endpoint}/windows", limit=1),
    )
    latest = windows.items[0] if windows.items else {}
    return {"found": found, "deployments": deployments, "drift": drift, "latest": latest, "name": endpoint}


def moved_in_groups(told: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Groups of segments, each with a column that is surely beyond the tolerance in it, the most surely moved first."""
    found = [(group, column) for group in told.get("groups", []) for column in group["columns"] if column["beyond"]]
    return sorted(found, key=lambda each: -each[1]["interval"][0])


def points_of(windows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The windows as the chart takes them, the oldest first; where two versions share one, the newer one speaks."""
    points: dict[str, dict[str, Any]] = {}
    for window in sorted(windows, key=lambda w: (w["window"]["to"], w["version"])):
        to = window["window"]["to"]
        rows = points[to]["rows"] if to in points else 0
        told = {name: window[name] for name in ("version", "statistic", "threshold", "latency")}
        points[to] = {"to": to, "rows": rows + window["window"]["rows"], **told}
    return list(points.values())
