"""How an endpoint is watched: read, tried over what is recorded, put in force, in a browser and with the keyboard."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from fairlead.errors import FairleadError

from .conftest import People, Platform
from .making import package


@dataclass(frozen=True)
class Watched:
    """An endpoint whose wages moved: an alarm is open."""

    endpoint: str
    url: str


@pytest.fixture(scope="module")
def watched(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """With windows of a second, and alarms soon."""
    name = f"wages-{uuid4().hex[:8]}"
    admin, compliance = platform.as_("admin"), platform.as_("compliance")
    admin.register_use_case(name, title="Who works?", owner="Labour", unit="retail", risk_tier=2, protected=[])
    admin.register(package(tmp_path_factory.mktemp("package"), name, 40), unit="retail")
    admin.deploy(name, use_case=name, model=name, version=1)
    pending = _soon(lambda: [a for a in compliance.approvals() if a.endpoint == name])
    compliance.approve(pending[0].id, "for this test")
    _soon(lambda: platform.as_("engineer").configure_monitor(name, window_s=1.0, budget_rows=2_000))
    _soon(lambda: _score(platform, name, 0.0))
    for moved in (0.0, 0.0, 9_000.0, 9_000.0):
        _score(platform, name, moved)
        time.sleep(1.1)  # rows of the next window
    _soon(lambda: platform.as_("engineer").drift(name).drifting)
    yield Watched(name, f"{platform.url}/endpoints/{name}/settings")


def _score(platform: Platform, endpoint: str, moved: float) -> Any:
    random = np.random.default_rng(int(moved) + 3)
    rows = np.column_stack([random.uniform(0, 100, 400), random.uniform(0, 5000, 400) + moved])
    return platform.as_("application").score(endpoint, rows.tolist())


def _soon(ask: Callable[[], Any]) -> Any:
    found, deadline = None, time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if found := ask():
                return found
        except FairleadError as error:
            found = error
        time.sleep(0.3)
    raise AssertionError(f"it did not come to it: {found}")


def test_a_setting_is_tried_beside_what_was_raised_and_put_in_force_by_keyboard(
    platform: Platform, as_: People, watched: Watched
) -> None:
    page = as_("engineer")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{platform.url}/endpoints/{watched.endpoint}")
    page.get_by_role("link", name="Settings").press("Enter")
    held = page.locator("#held-budget_rows")
    expect(held).to_contain_text("2\u202f000 rows")
    expect(held).to_contain_text("API or console")
    expect(page.locator("#held-tolerance")).to_contain_text("default")
    expect(page.get_by_text("age by the package")).to_be_visible()
    page.get_by_role("link", name="Change").press("Enter")

    _type(page, "Tolerance", "11")
    page.get_by_label("Tolerance", exact=True).press("Enter")
    _is_wrong(page, "Tolerance", "less than or equal to 10")
    _type(page, "Tolerance", "9.5")
    page.get_by_role("button", name="Add a KPI").press("Enter")
    kpi = page.get_by_role("group", name="KPI 1")
    kpi.get_by_label("Name").fill("hired")
    kpi.get_by_label("Expression").fill("lable == 1")
    page.get_by_role("button", name="Try it").press("Enter")
    _is_wrong(kpi, "Expression", "lable")
    kpi.get_by_label("Expression").fill("label == 1 ? 1 : 0")
    kpi.get_by_label("Expression").press("Enter")

    tried = page.locator("#tried")
    expect(tried).to_be_focused()
    expect(tried.get_by_role("region", name="Really raised")).to_contain_text("wage")
    expect(tried.get_by_role("region", name="As set now")).to_contain_text("wage")
    # No tolerance of drift excuses values that the training rows never had.
    proposed = tried.get_by_role("region", name="As proposed")
    expect(proposed).to_contain_text("1 alarm")
    expect(proposed.get_by_role("listitem")).to_contain_text("wage out of range")
    expect(tried).to_contain_text("Not tried: KPIs.")
    page.set_viewport_size({"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1280, "height": 900})

    force = page.get_by_role("button", name="Put in force")
    _type(page, "Tolerance", "9")
    expect(force).to_be_disabled()
    expect(page.get_by_text("You changed it: try it again first.")).to_be_visible()
    page.get_by_label("Tolerance", exact=True).press("Enter")
    expect(force).to_be_enabled()
    force.press("Enter")
    expect(page.get_by_text("In force.", exact=True)).to_be_visible()
    expect(page.locator("#held-tolerance")).to_contain_text("9")
    expect(page.locator("#held-kpis")).to_contain_text("hired: label == 1 ? 1 : 0")
    settings = platform.as_("engineer").monitor(watched.endpoint)["settings"]
    assert (settings["tolerance"], settings["kpis"]) == (9.0, {"hired": "label == 1 ? 1 : 0"})


def test_what_somebody_else_changed_is_told_and_not_overwritten(
    platform: Platform, as_: People, watched: Watched
) -> None:
    page, engineer = as_("data-scientist"), platform.as_("engineer")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{watched.url}?change=true")
    _type(page, "Share of unusable values", "0.3")
    engineer.configure_monitor(watched.endpoint, quality_tolerance=0.2, silent_after_s=7200.0)
    page.get_by_role("button", name="Try it").press("Enter")
    expect(page.locator("#outdated")).to_contain_text("Changed meanwhile.")
    expect(page.get_by_label("Silent after, seconds")).to_have_value("7200")
    expect(page.get_by_label("Share of unusable values")).to_have_value("0.3")
    assert engineer.monitor(watched.endpoint)["settings"]["quality_tolerance"] == 0.2
    page.get_by_role("button", name="Try it").press("Enter")
    page.get_by_role("button", name="Put in force").press("Enter")
    expect(page.locator("#held-quality_tolerance")).to_contain_text("0.3")
    page.get_by_role("link", name="Change").press("Enter")
    row = page.locator("div", has=page.get_by_label("Silent after, seconds")).last.locator("..")
    row.get_by_label("As deployed again").press("Space")
    page.get_by_role("button", name="Try it").press("Enter")
    page.get_by_role("button", name="Put in force").press("Enter")
    expect(page.locator("#held-silent_after_s")).to_contain_text("by its history")


def test_who_may_not_change_it_reads_it_in_a_narrow_window_too(
    platform: Platform, as_: People, watched: Watched
) -> None:
    page = as_("compliance")
    page.set_viewport_size({"width": 420, "height": 900})
    page.goto(f"{watched.url}?change=true")
    expect(page.locator("#held-window_s")).to_contain_text("1 s")
    assert page.locator("main form").count() == page.get_by_role("link", name="Change").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _type(page: Any, label: str, text: str) -> None:
    page.get_by_label(label, exact=True).fill(text)


def _is_wrong(page: Page | Any, label: str, why: str) -> None:
    """The input is marked, has the focus, and says why beside it."""
    wrong = page.get_by_label(label, exact=True)
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(wrong).to_be_focused()
    expect(wrong).to_have_accessible_description(re.compile(re.escape(why)))
