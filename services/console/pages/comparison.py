"""A version beside the champion: would it have decided differently, where, and was it better?"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from contracts import Name

from .shell import Person, Shell

_WINDOWS = 24

Told = dict[str, Any]
"""A part of the monitor's answer."""


def router(shell: Shell) -> APIRouter:
    """`/endpoints/{endpoint}/comparison`; a script gets the part that is renewed."""
    api = APIRouter(prefix="/endpoints/{endpoint}", include_in_schema=False)

    @api.get("/comparison")
    async def comparison(request: Request, me: Person, endpoint: Name) -> HTMLResponse:
        told = await shell.gateway.ask(request, "monitor", f"/v1/monitors/{endpoint}/comparison", limit=_WINDOWS)
        context: Told = {"told": told, "name": endpoint, **READING}
        if "hx-request" in request.headers:
            return shell.page(request, "endpoint_comparison_part.html", **context)
        found = await shell.gateway.ask(request, "deployer", f"/v1/endpoints/{endpoint}")
        status = 200 if found.ok else found.status
        return shell.page(request, "endpoint_comparison.html", status, found=found, title=endpoint, **context)

    return api


def figure(of: Told, name: str) -> Told:
    """A figure by name; of what is not told, why."""
    nothing: Told = {"value": None, "interval": None, "rows": 0, "why": "no rows"}
    return next((each for each in of["statistics"] if each["name"] == name), nothing)


def classes_of(answers: Told) -> list[str]:
    """All that one of both decided; as numbers where all of them are."""
    names = {each[side] for each in answers["cells"] for side in ("told", "said")}
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


def cell(answers: Told, told: str, said: str) -> int:
    """Rows of a pair of decisions."""
    return sum(each["rows"] for each in answers["cells"] if (each["told"], each["said"]) == (told, said))


def differing(answers: Told) -> list[Told]:
    """Pairs of different decisions, the commonest first."""
    return sorted((each for each in answers["cells"] if each["told"] != each["said"]), key=lambda each: -each["rows"])


def group(outcomes: Told, of: Told) -> Told | None:
    """The same group among rows with an outcome."""
    place = of["segment"], of["group"]
    return next((each for each in outcomes["groups"] if (each["segment"], each["group"]) == place), None)


READING: Told = {"figure": figure, "classes_of": classes_of, "cell": cell, "differing": differing, "group": group}
"""What the page reads the answer with."""
