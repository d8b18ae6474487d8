"""Who is told of alerts, and when not: set by people before the console, in a real browser, with the keyboard alone."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import orjson
import pytest
import yaml
from playwright.sync_api import expect

from .conftest import People, Platform


class Receiver(HTTPServer):
    """What takes webhooks on this machine."""

    told: list[dict[str, Any]]


@pytest.fixture
def receiver(platform: Platform) -> Iterator[Receiver]:
    """One that an administrator named `ops`."""

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            running.told.append(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    running = Receiver(("127.0.0.1", 0), Taking)
    running.told = []
    threading.Thread(target=running.serve_forever, daemon=True).start()
    entry = {"name": "ops", "kind": "https", "url": f"http://127.0.0.1:{running.server_port}", "signing": "secret"}
    (platform.home.path / "connections.yaml").write_text(yaml.safe_dump({"connections": [entry]}))
    yield running
    running.shutdown()
    running.server_close()


def test_a_route_is_made_tried_changed_and_removed_by_keyboard(
    platform: Platform, as_: People, receiver: Receiver
) -> None:
    page = as_("engineer")
    page.goto(f"{platform.url}/alerts")
    page.get_by_role("link", name="Who is told").press("Enter")
    page.get_by_role("link", name="New route").press("Enter")
    _type(page, "Name", "on-call")
    _type(page, "Endpoints", "not-there")
    _type(page, "Connection", "nothing")
    page.get_by_role("button", name="Make it").press("Enter")
    _is_wrong(page, "Connection", "No server nothing is approved for unit retail")
    _type(page, "Connection", "ops")
    page.get_by_label("Connection").press("Enter")
    _is_wrong(page, "Endpoints", "There is no endpoint not-there")
    expect(page.get_by_label("Connection")).to_have_value("ops")
    _type(page, "Endpoints", "")
    page.get_by_role("button", name="Make it").press("Enter")
    expect(page.get_by_text("on-call is kept.")).to_be_visible()

    page.get_by_role("button", name="Try on-call").press("Enter")
    expect(page.get_by_text("Tried.")).to_be_visible()
    expect(page.locator("#said .tag.good")).to_have_text("sent")
    assert [message["title"] for message in receiver.told] == ["[resolved] on-call: This is a test"]

    page.get_by_role("link", name="Change on-call").press("Enter")
    page.get_by_role("button", name="Add a step").press("Enter")
    second = page.get_by_role("group", name="Then, if nobody acknowledged it")
    second.get_by_label("Connection").fill("ops")
    second.get_by_label("By").select_option("email")
    page.get_by_role("button", name="Keep it").press("Enter")
    _is_wrong(second, "Recipients", "An e-mail needs somebody to go to")
    second.get_by_label("By").select_option("webhook")
    _type(second, "Path", "/boss")
    page.get_by_role("button", name="Keep it").press("Enter")
    expect(page.get_by_text("After 15 min: webhook ops/boss")).to_be_visible()
    assert len(_route(platform, "on-call")["steps"]) == 2

    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove on-call").press("Enter")
    expect(page.get_by_text("Nobody is told of any alert until there is one.")).to_be_visible()
    assert _route(platform, "on-call")["status"] == 404


def test_a_silence_is_made_and_ended_by_keyboard(platform: Platform, as_: People) -> None:
    page = as_("engineer")
    page.goto(f"{platform.url}/alerts/silences")
    _type(page, "Why", "new hosts")
    page.get_by_role("button", name="Make it").press("Enter")
    _is_wrong(page, "Endpoint", "Name an endpoint, a kind, or both")
    _type(page, "Endpoint", "not-there")
    page.get_by_label("Endpoint").press("Enter")
    _is_wrong(page, "Endpoint", "There is no endpoint not-there")
    _type(page, "Endpoint", "")
    _type(page, "Kind of alert", "drift")
    until = page.get_by_label("Until, in UTC")
    before = until.input_value()
    until.fill("2020-01-01T00:00")
    page.get_by_role("button", name="Make it").press("Enter")
    _is_wrong(page, "Until, in UTC", "It is not after starts_at")
    until.fill(before)
    page.get_by_role("button", name="Make it").press("Enter")
    expect(page.get_by_text("Nobody is told of drift until")).to_be_visible()
    row = page.get_by_role("listitem").filter(has_text="new hosts")
    expect(row.get_by_text("active")).to_be_visible()
    page.goto(f"{platform.url}/alerts")
    expect(page.get_by_text("Not everything is told.")).to_be_visible()
    page.get_by_role("link", name="drift", exact=True).press("Enter")
    page.get_by_role("button", name="End the silence of drift").press("Enter")
    expect(row.get_by_text(", ended by engineer")).to_be_visible()


def test_who_may_not_set_them_sees_them_and_is_offered_nothing(
    platform: Platform, as_: People, receiver: Receiver
) -> None:
    _route(platform, "seen", unit="retail", steps=[{"channels": [{"kind": "webhook", "connection": "ops"}]}])
    page = as_("compliance")
    page.goto(f"{platform.url}/alerts/routes?change=seen")
    expect(page.get_by_text("webhook ops")).to_be_visible()
    page.goto(f"{platform.url}/alerts/routes?new=true")
    assert page.locator("main").get_by_role("button").count() == page.locator("main form").count() == 0
    page.goto(f"{platform.url}/alerts/silences")
    expect(page.get_by_role("heading", name="Silences", level=1)).to_be_visible()
    assert page.locator("main form").count() == 0


@pytest.mark.parametrize("path", ["/alerts/routes", "/alerts/routes?new=true", "/alerts/silences"])
def test_no_page_of_alerting_is_wider_than_a_narrow_window(platform: Platform, as_: People, path: str) -> None:
    page = as_("admin")
    page.set_viewport_size({"width": 420, "height": 900})
    page.goto(platform.url + path)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _type(page: Any, label: str, text: str) -> None:
    page.get_by_label(label, exact=True).fill(text)


def _is_wrong(page: Any, label: str, why: str) -> None:
    """The input is marked, has the focus, and says why beside it."""
    wrong = page.get_by_label(label, exact=True)
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(wrong).to_be_focused()
    expect(wrong).to_have_accessible_description(re.compile(re.escape(why)))


def _route(platform: Platform, name: str, **made: Any) -> dict[str, Any]:
    """As the governor has it, or as it is made."""
    token = {"authorization": f"Bearer {platform.token('engineer')}"}
    method, url = "PUT" if made else "GET", f"{platform.url}/v1/alert-routes/{name}"
    return httpx.request(method, url, headers=token, json=made or None).json()
