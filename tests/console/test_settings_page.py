"""The page of an endpoint's settings, on a monitor that takes, refuses, or was changed by somebody else meanwhile."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts import MonitorSettings
from services.console.settings import ConsoleSettings

from .conftest import Client, Peer, serving
from .test_alert_pages import signed_in

AT = "/endpoints/credit/settings"
ALARM = {"at": "2026-03-02T00:30:00Z", "since": "2026-03-02T00:20:00Z", "rows_watched": 900, "features": [
    {"name": "income", "effect": -0.4, "interval": [-0.6, -0.2], "tolerance": 0.1, "unit": "sd"}]}  # fmt: skip


@dataclass
class Watcher:
    """What stands where the monitor would."""

    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    tag: str = '"1"'
    alarms: int = 1
    refuses: dict[str, Any] | None = None
    """What it says of the dry run."""
    asked: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list[Any])
    """What it was asked to check or keep, and under which condition."""
    changes_after_a_check: bool = False

    def view(self, some: dict[str, Any]) -> dict[str, Any]:
        sources = {name: "set" if name in some else "default" for name in MonitorSettings.model_fields}
        return {
            "endpoint": "credit", "unit": "retail", "use_case": "limits", "model": "credit", "version": 2,
            "settings": some, "sources": sources, "season_s": some.get("season_s") or None, "season_learned_at": None,
            "changed_at": "2026-03-02T00:00:00Z",
        }  # fmt: skip

    async def answer(self, request: Request) -> Response:
        path = request.url.path.removeprefix("/v1/monitors/credit")
        body = json.loads(await request.body() or b"{}")
        if request.method == "PUT":
            return self.put(request, body)
        if path == "/dry-run":
            self.asked.append(("dry-run", body, None))
            told = {"from": "2026-03-02T00:00:00Z", "to": "2026-03-02T01:00:00Z", "version": 2, "windows": 60,
                    "rows": 6_000, "labels": 250, "labels_from": "2026-03-02T00:00:00Z",
                    "not_tried": ["silence and volume"], "present": {"alarms": [ALARM] * self.alarms, "notes": []},
                    "proposed": {"alarms": [], "notes": [ALARM]}}  # fmt: skip
            return JSONResponse(self.refuses or told, self.refuses["status"] if self.refuses else 200)
        if path == "/drift":
            event = ALARM | {"version": 2, "window": {"to": ALARM["at"]}}
            return JSONResponse({"alarms": [{"found_at": ALARM["at"], "event": event}], "notes": []})
        return JSONResponse(self.view(self.settings), headers={"etag": self.tag})

    def put(self, request: Request, body: dict[str, Any]) -> Response:
        only, held = request.query_params.get("validate_only") == "true", request.headers.get("if-match")
        self.asked.append(("check" if only else "keep", body, held))
        if held != self.tag:
            return JSONResponse({"detail": "it was changed"}, 412)
        if (body.get("tolerance") or 0) > 10:
            refusal = {"field": "tolerance", "detail": "tolerance: Input should be less than or equal to 10"}
            return JSONResponse(refusal, 422)
        after = {name: value for name, value in (self.settings | body).items() if value is not None}
        if self.changes_after_a_check:
            self.tag, self.settings, self.changes_after_a_check = '"9"', {"window_s": 60.0}, False
        if not only:
            self.settings, self.tag = after, '"2"'
        return JSONResponse(self.view(after), headers={"etag": self.tag})


@pytest.fixture
async def monitor(settings: ConsoleSettings) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    app = Starlette(routes=[Route("/{rest:path}", watcher.answer, methods=["GET", "PUT", "POST"])])
    async with serving(app, settings.listen_port("monitor")):
        yield watcher


class Person:
    """Somebody with the form open."""

    def __init__(self, browser: httpx.AsyncClient, page: str) -> None:
        self.browser, self.page = browser, page
        self.csrf = page.partition('name="csrf" content="')[2].partition('"')[0]

    def fields(self) -> dict[str, Any]:
        """As a browser would send what stands in the form."""
        form = self.page[self.page.index('id="settings-form"') :]
        found: dict[str, Any] = {}
        for tag in re.findall(r"<input[^>]*>", form):
            marks = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
            if marks.get("type") != "checkbox" and "name" in marks:
                found[marks["name"]] = marks.get("value", "").replace("&#34;", '"')
        chosen = r'<select[^>]* name="([\w.]+)"[^>]*>.*?<option selected>(\w+)</option>'
        return found | dict(re.findall(chosen, form))

    async def press(self, wants: str = "try", **typed: Any) -> httpx.Response:
        fields = self.fields() | {name.replace("__", "."): said for name, said in typed.items()} | {"wants": wants}
        answer = await self.browser.post(AT, data=fields, headers={"x-csrf-token": self.csrf})
        if answer.status_code == 200:
            self.page = answer.text
        return answer

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", self.page).replace("\u202f", " "))


@pytest.fixture
async def person(as_: Client, monitor: Watcher, deployer: Peer, catalog: Peer, home: Path) -> Person:
    token = (home / "tokens" / "engineer.jwt").read_text()
    deployer.endpoints["credit"] = token
    browser = await signed_in(as_, token)
    return Person(browser, (await browser.get(f"{AT}?change=true")).text)


async def test_a_setting_is_tried_and_only_then_put_in_force(person: Person, monitor: Watcher) -> None:
    assert "Put in force" not in person.text
    await person.press("force", tolerance="0.2")
    assert [how for how, _, _ in monitor.asked] == ["check", "dry-run"], "what was never tried is tried"
    assert monitor.asked[0][1:] == ({"tolerance": 0.2}, '"1"')
    assert monitor.asked[1][1] == {
        "budget_rows": 1_000_000, "tolerance": 0.2, "season_s": 0.0, "quality_alerts": True, "quality_tolerance": 0.05,
        "expected_error": None,
    }  # fmt: skip
    for told in ("Tolerance: 0.1 0.2", "Really raised: 1 alarm ", "As set now: 1 alarm ", "As proposed: no alarms",
                 "1 note;", "income", "60 recorded windows of version 2", "and 250 labels since",
                 "Not looked at: silence and volume.", "Put in force"):  # fmt: skip
        assert told in person.text, told
    await person.press("force", tolerance="0.3")
    assert "You changed it since you tried it" in person.text and monitor.settings == {}
    answer = await person.press("force", tolerance="0.3")
    assert answer.status_code == 204 and answer.headers["hx-redirect"] == f"{AT}?saved=true"
    assert monitor.settings == {"tolerance": 0.3} and monitor.asked[-1] == ("keep", {"tolerance": 0.3}, '"1"')


async def test_what_the_monitor_refuses_stands_at_its_input_and_what_was_typed_stays(
    person: Person, monitor: Watcher
) -> None:
    await person.press(tolerance="11", window_s="60")
    assert [how for how, _, _ in monitor.asked] == ["check"]
    wrong = re.search(r'<input[^>]*value="11"[^>]*>', person.page)
    assert wrong and 'aria-invalid="true"' in wrong[0] and 'aria-describedby="tolerance-said"' in wrong[0]
    assert '<p class="wrong" id="tolerance-said">Input should be less than or equal to 10</p>' in person.page
    assert person.fields()["window_s"] == "60" and "Put in force" not in person.text
    await person.press(tolerance="0.1", kpis__0__name="", kpis__0__expression="label")
    assert 'id="kpis.0.name-said">A KPI needs a name' in person.page


async def test_what_others_changed_is_told_and_not_overwritten(person: Person, monitor: Watcher) -> None:
    await person.press(tolerance="0.2")
    monitor.settings, monitor.tag = {"tolerance": 0.5, "window_s": 60.0}, '"7"'
    await person.press("force", tolerance="0.2", budget_rows="5000")
    assert all(how != "keep" for how, _, _ in monitor.asked) and "Changed meanwhile." in person.text
    assert "Tolerance 0.5 (you typed otherwise, which is kept below)" in person.text
    assert "Window, seconds 60 s" in person.text and "Put in force" not in person.text
    typed = person.fields()
    assert (typed["tolerance"], typed["window_s"], typed["budget_rows"]) == ("0.2", "60", "5000")
    await person.press()
    assert monitor.asked[-2] == ("check", {"tolerance": 0.2, "budget_rows": 5_000}, '"7"')


async def test_a_change_between_the_check_and_the_keeping_is_told_as_well(person: Person, monitor: Watcher) -> None:
    await person.press(tolerance="0.2")
    monitor.changes_after_a_check = True
    await person.press("force")
    assert "Changed meanwhile." in person.text and monitor.settings == {"window_s": 60.0}


async def test_what_no_dry_run_looks_at_is_named_and_can_be_put_in_force(person: Person, monitor: Watcher) -> None:
    await person.press(silent_after_s="600", retrain_on_drift="no")
    assert [how for how, _, _ in monitor.asked] == ["check"]
    assert "Not tried: Retrain on drift, Silent after, seconds." in person.text
    assert (await person.press("force")).status_code == 204
    assert monitor.settings == {"retrain_on_drift": False, "silent_after_s": 600.0}


@pytest.mark.parametrize(("status", "offered"), [(409, True), (422, True), (503, False)])
async def test_what_could_not_be_tried_says_why(person: Person, monitor: Watcher, status: int, offered: bool) -> None:
    monitor.refuses = {"status": status, "detail": "version 2 has no baseline"}
    await person.press(tolerance="0.2")
    assert "It could not be tried. version 2 has no baseline" in person.text
    assert ("Put in force" in person.text) is offered


async def test_of_many_alarms_the_first_are_shown_and_how_many_there_are(person: Person, monitor: Watcher) -> None:
    monitor.alarms = 45
    await person.press(tolerance="0.2")
    assert "As set now: 45 alarms" in person.text and "The first 20 of 45 alarms." in person.text


async def test_nothing_changed_asks_for_nothing_and_a_set_one_is_given_back(person: Person, monitor: Watcher) -> None:
    await person.press()
    assert "Nothing differs from what is in force." in person.text and not monitor.asked
    monitor.settings, monitor.tag = {"tolerance": 0.5}, '"3"'
    await person.press()
    assert 'name="follow" value="tolerance"' in person.page
    await person.press(follow="tolerance")
    assert monitor.asked[0] == ("check", {"tolerance": None}, '"3"') and "Tolerance: 0.5 0.1" in person.text


async def test_who_may_not_change_it_reads_it(
    as_: Client, monitor: Watcher, deployer: Peer, catalog: Peer, home: Path
) -> None:
    token = (home / "tokens" / "compliance.jwt").read_text()
    deployer.endpoints["credit"] = token
    monitor.settings = {"tolerance": 0.5}
    page = (await (await signed_in(as_, token)).get(f"{AT}?change=true")).text
    assert "settings-form" not in page and ">Change</a>" not in page
    row = page.partition('id="held-tolerance"')[2].partition("</tr>")[0]
    assert ">0.5<" in row and "API or console" in row
    assert "default" in page.partition('id="held-budget_rows"')[2].partition("</tr>")[0]
