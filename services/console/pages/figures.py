"""What the monitor knows of an endpoint beside its drift: its service level, its performance, its fairness."""

import asyncio
import re
from collections.abc import Sequence
from math import inf
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse

from contracts import Name
from services.console.gateway import Answer

from .shell import Person, Shell

SPANS = ("1h", "24h", "7d", "30d")
_WINDOWS = 48
_SLICES = 12

Told = dict[str, Any]
"""A part of the monitor's answer."""
NOTHING: Told = {"statistics": []}


def router(shell: Shell) -> APIRouter:
    """`/endpoints/{endpoint}/service`, `/performance` and `/fairness`; a script gets the part that is renewed."""
    api = APIRouter(prefix="/endpoints/{endpoint}", include_in_schema=False)
    ask = shell.gateway.ask

    async def shown(request: Request, endpoint: str, page: str, told: Answer, **context: Any) -> HTMLResponse:
        if "hx-request" in request.headers:
            return shell.page(request, f"endpoint_{page}_part.html", told=told, name=endpoint, **context)
        found = await ask(request, "deployer", f"/v1/endpoints/{endpoint}")
        return shell.page(
            request, f"endpoint_{page}.html", 200 if found.ok else found.status, found=found, told=told,
            name=endpoint, title=endpoint, **context,
        )  # fmt: skip

    async def performance_of(request: Request, endpoint: str, **more: str) -> Answer:
        return await ask(request, "monitor", f"/v1/monitors/{endpoint}/performance", limit=_WINDOWS, **more)

    @api.get("/service")
    async def service(request: Request, me: Person, endpoint: Name, span: str = "24h") -> HTMLResponse:
        told = await ask(request, "monitor", f"/v1/monitors/{endpoint}/service", span=span)
        return await shown(request, endpoint, "service", told, span=span, spans=SPANS)

    @api.get("/performance")
    async def performance(
        request: Request, me: Person, endpoint: Name, figure: str = "", by: Annotated[str, Query(max_length=200)] = ""
    ) -> HTMLResponse:
        told, settings, sliced = await asyncio.gather(
            performance_of(request, endpoint, **({"segment": by} if by else {})),
            ask(request, "monitor", f"/v1/monitors/{endpoint}"),
            ask(request, "monitor", f"/v1/monitors/{endpoint}/slices", limit=_SLICES),
        )
        overall = told.data.get("overall", [])
        figures = headlines(overall)
        return await shown(
            request, endpoint, "performance", told, settings=settings, figures=figures,
            figure=chosen(figures, figure), rows=compared(overall), pick=pick, by=by, groups=by_group(overall),
            expected=compared([each["estimated"] or NOTHING for each in overall]),
            segments=told.data.get("segments", []), sliced=sliced, most=_WINDOWS,
        )  # fmt: skip

    @api.get("/performance/series")
    async def series(request: Request, me: Person, endpoint: Name, figure: str = "") -> JSONResponse:
        told = await performance_of(request, endpoint)
        figure = chosen(headlines(told.data.get("overall", [])), figure)
        return JSONResponse({"problem": told.problem, "windows": points_of(told.data.get("windows", []), figure)})

    @api.get("/fairness")
    async def fairness(request: Request, me: Person, endpoint: Name, version: str = "") -> HTMLResponse:
        told = await ask(request, "monitor", f"/v1/monitors/{endpoint}/fairness")
        versions = list(dict.fromkeys(each["version"] for each in told.data.get("attributes", [])))
        asked = next((each for each in versions if str(each) == version), next(iter(versions), None))
        return await shown(request, endpoint, "fairness", told, versions=versions, version=asked, groups_of=groups_of)

    return api


def key_of(statistic: Told) -> str:
    """What tells a figure from the others of its variant."""
    return statistic["name"] if statistic["of"] is None else f"{statistic['name']} of {statistic['of']}"


def headlines(overall: Sequence[Told]) -> list[str]:
    """Figures of a model as a whole, by key: those that a chart may show."""
    told = [each["statistics"] for each in overall] + [(each["estimated"] or NOTHING)["statistics"] for each in overall]
    return list(dict.fromkeys(key_of(s) for each in told for s in each if s["of"] is None or s["name"] == "kpi"))


def chosen(figures: Sequence[str], asked: str) -> str:
    """The figure that is asked for, where there is such a one; else the first."""
    return asked if asked in figures else next(iter(figures), "")


def pick(figures: Told, key: str) -> Told:
    """A variant's figure; nothing where it has no such one."""
    return next((each for each in figures["statistics"] if key_of(each) == key), {})


def compared(overall: Sequence[Told]) -> list[tuple[str, list[Told]]]:
    """Every figure by key, with what each variant has of it."""
    keys = dict.fromkeys(key_of(s) for each in overall for s in each["statistics"])
    return [(key, [pick(each, key) for each in overall]) for key in keys]


def by_group(overall: Sequence[Told]) -> list[tuple[str, list[Told]]]:
    """Every group by name, with what each variant has of it; those of a number by its size."""
    names = sorted({group["group"] for each in overall for group in each["groups"]}, key=_place)
    return [(name, [_group(each, name) for each in overall]) for name in names]


def _group(variant: Told, name: str) -> Told:
    nothing: Told = {"labelled": 0, "statistics": []}
    return next((group for group in variant["groups"] if group["group"] == name), nothing)


def groups_of(attribute: Told) -> list[str]:
    """The groups of an attribute by name; those of a number by its size."""
    rated = (rate["group"] for measure in attribute["measures"] for rate in measure["rates"])
    groups = {*rated, *(group for measure in attribute["measures"] for group in measure["too_few"])}
    return sorted(groups, key=_place)


def _place(group: str) -> tuple[float, str]:
    if group.startswith("up to "):
        return -inf, group
    found = re.match(r"(over )?(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)", group)
    return float(found[2]) if found else inf, group


def points_of(windows: Sequence[Told], figure: str) -> list[Told]:
    """The windows as the chart takes them, the oldest first; of variants that share one, that with most outcomes."""
    points: dict[str, Told] = {}
    for window in sorted(windows, key=lambda w: (w["window"]["to"], w["labelled"], w["version"])):
        found = pick(window, figure)
        low, high = found.get("interval") or (None, None)
        points[window["window"]["to"]] = {
            "to": window["window"]["to"], "version": window["version"], "rows": window["labelled"],
            "value": found.get("value"), "low": low, "high": high,
        }  # fmt: skip
    return list(points.values())
