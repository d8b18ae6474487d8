"""Who is told of alerts: routes, made, changed, tried and removed by those who may."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from contracts import Name
from services.console.gateway import Answer
from services.kit.context import Caller

from . import route_form
from .alerts import receiver
from .shell import Person, Shell, may

_CONFIGURE = "alert.configure"
_AT = "/v1/alert-routes"
_SHOWN = 500


def router(shell: Shell) -> APIRouter:
    """`/alerts/routes`."""
    api = APIRouter(prefix="/alerts/routes", include_in_schema=False)
    ask, tell = shell.gateway.ask, shell.gateway.tell

    async def form(
        request: Request, me: Caller, draft: route_form.Draft, *, change: str, answer: Answer | None = None
    ) -> HTMLResponse:
        wrong, reason = answer.refuses(route_form.names(draft)) if answer and not answer.ok else ("", "")
        return shell.page(request, "route_form.html", wrong=wrong, reason=reason,
                          **_form(me, draft, change), answer=answer)  # fmt: skip

    @api.get("")
    async def page(request: Request, me: Person, change: str = "", new: bool = False, saved: str = "") -> HTMLResponse:
        routes = await ask(request, "governor", _AT, limit=_SHOWN)
        known = {route["name"]: route for route in routes.items}
        draft = route_form.empty(next(iter(_units(me)), "")) if new else None
        if change in known:
            draft = route_form.of_route(known[change])
        shown = _form(me, draft, change) if draft and may(me, _CONFIGURE) else {}
        return shell.page(request, "routes.html", routes=routes, may=_may(me), saved=saved if saved in known else "",
                          receiver=receiver, title="Who is told", **shown)  # fmt: skip

    @api.post("")
    async def save(request: Request, me: Person, change: str = "") -> Response:
        fields = await request.form()
        said = {name: [str(value) for value in fields.getlist(name)] for name in fields}
        draft = route_form.read(said)
        if press := next(iter(said.get("press", ())), ""):
            return await form(request, me, route_form.changed(draft, press), change=change)
        name = change or draft["name"]
        answer = await _free(shell, request, name) if not change else Answer()
        if answer.ok:
            answer = await tell(request, "governor", f"{_AT}/{quote(name, safe='')}", route_form.body(draft), "PUT")
        if answer.ok:
            return Response(status_code=204, headers={"HX-Redirect": f"/alerts/routes?saved={quote(name)}"})
        return await form(request, me, draft, change=change, answer=answer)

    @api.post("/{name}/remove")
    async def remove(request: Request, me: Person, name: Name) -> HTMLResponse:
        answer = await tell(request, "governor", f"{_AT}/{name}", {}, "DELETE")
        routes = await ask(request, "governor", _AT, limit=_SHOWN)
        return shell.page(request, "route_list.html", routes=routes, may=_may(me), receiver=receiver, answer=answer,
                          done=f"Nobody is told over {name} any more.")  # fmt: skip

    @api.post("/{name}/test")
    async def test(request: Request, me: Person, name: Name) -> HTMLResponse:
        answer = await tell(request, "governor", f"{_AT}/{name}/test", {})
        at = min((message["gathered_at"] for message in answer.items), default="")
        return shell.page(request, "route_tried.html", name=name, answer=answer, at=at, messages=answer.items,
                          receiver=receiver)  # fmt: skip

    @api.get("/{name}/tried")
    async def tried(request: Request, me: Person, name: Name, at: Annotated[str, Query(max_length=64)]) -> HTMLResponse:
        found = await ask(request, "governor", "/v1/alert-messages", limit=300)
        messages = [m for m in found.items[::-1] if (m["subject"], m["gathered_at"]) == (name, at)]
        return shell.page(request, "route_tried.html", name=name, answer=found, at=at, messages=messages,
                          receiver=receiver)  # fmt: skip

    return api


def _form(me: Caller, draft: route_form.Draft, change: str) -> dict[str, Any]:
    return {"draft": draft, "change": change, "units": _units(me), "kinds": route_form.KINDS,
            "severities": route_form.SEVERITIES}  # fmt: skip


def _units(me: Caller) -> list[str]:
    """Of which units somebody may set a route."""
    return sorted(me.units)


def _may(me: Caller) -> Any:
    """Of a unit, whether this person may set its routes; of None, whether of any."""
    return lambda unit: may(me, _CONFIGURE, unit)


async def _free(shell: Shell, request: Request, name: str) -> Answer:
    """A new route takes no other's place: it is made only where the governor says that there is none."""
    wrong = {"field": "name"}
    if not name:
        return Answer(wrong, 422, "name: a route needs one")
    found = await shell.gateway.ask(request, "governor", f"{_AT}/{quote(name, safe='')}")
    if found.ok:
        return Answer(wrong, 409, f"name: there is a route {name} already")
    return Answer() if found.status == 404 else found
