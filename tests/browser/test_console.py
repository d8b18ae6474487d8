"""What people do before the console, in a real browser."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from playwright.sync_api import Browser, Page, expect

from fairlead import Scores
from fairlead.errors import FairleadError
from services.kit.kafka import Connection

from .conftest import Asked, People, Platform
from .making import package

PAGES = {
    "/": "Overview", "/models": "Models", "/endpoints": "Endpoints", "/topics": "Topics", "/approvals": "Approvals",
    "/alerts": "Alerts and drift", "/audit": "Audit", "/dead-letters": "Dead letters",
}  # fmt: skip


def test_a_stranger_is_asked_for_a_token_and_led_back_to_the_page(platform: Platform, as_: People) -> None:
    page = as_("")
    page.goto(f"{platform.url}/approvals")
    expect(page).to_have_url(re.compile(r"/login\?next=/approvals"))
    page.get_by_label("Token").fill(platform.token("compliance"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1, name="Approvals")).to_be_visible()
    expect(page.locator(".me b")).to_have_text("compliance")


def test_a_link_of_another_site_signs_nobody_in(platform: Platform, browser: Browser) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{platform.url}/login?token={platform.token('admin')}")
    expect(page.get_by_role("button", name="Sign in as admin")).to_be_visible()
    assert page.context.cookies() == []
    form = (
        f"<form method=post action='{platform.url}/login'><input name=token value='{platform.token('admin')}'></form>"
    )
    page.goto("about:blank")
    page.set_content(form)
    page.evaluate("document.forms[0].submit()")
    expect(page.get_by_role("alert")).to_contain_text("did not come from the console")
    assert page.context.cookies() == []
    page.context.close()


def test_signing_out_ends_the_session(platform: Platform, as_: People) -> None:
    page = as_("engineer")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{platform.url}/models")
    expect(page).to_have_url(re.compile("/login"))


def test_the_session_is_out_of_reach_of_scripts_and_writes_need_the_pages_token(
    platform: Platform, browser: Browser
) -> None:
    page = browser.new_context().new_page()
    platform.sign_in(page, "admin")
    assert page.evaluate("document.cookie") == ""
    forged = "fetch('/v1/dead-letters/replay', {method: 'POST', body: '{}'}).then((answer) => answer.status)"
    assert page.evaluate(forged) == 403
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_stands_without_a_complaint(
    platform: Platform, as_: People, asked: Asked, scheme: str, tmp_path: Path
) -> None:
    page = as_("compliance")
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    more = {
        f"/models/{asked.model}": asked.model,
        f"/models/{asked.model}/versions/1": f"{asked.model} v1",
        "/topics/model.registered": "model.registered",
    }
    for path, heading in {**PAGES, **more}.items():
        page.goto(platform.url + path)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        expect(page.get_by_text("This part cannot be shown")).to_have_count(0)
        page.screenshot(path=tmp_path / f"{scheme}-{heading}.png", full_page=True)


def test_a_person_grants_what_another_asked_for(platform: Platform, as_: People, asked: Asked) -> None:
    page = as_("compliance")
    page.goto(f"{platform.url}/approvals")
    card = page.locator(f"#approval-{asked.approval}")
    expect(card.get_by_text("security scan clean")).to_be_visible()
    card.get_by_text("security scan clean").click()
    expect(card.get_by_text('model.scan.verdict == "clean"')).to_be_visible()
    card.get_by_label("Reason").fill("read the evidence")
    card.get_by_role("button", name="Grant").click()
    expect(card.get_by_text("Granted.")).to_be_visible()
    deployment = next(iter(platform.as_("admin").deployments(endpoint=asked.endpoint)))
    assert deployment.state in ("in_review", "rolling_out", "serving")
    page.goto(f"{platform.url}/approvals")
    row = page.get_by_role("row").filter(has_text=asked.endpoint)
    expect(row.get_by_text("granted")).to_be_visible()
    expect(row.get_by_text("read the evidence")).to_be_visible()


def test_nobody_grants_their_own_request_and_is_told_so(platform: Platform, as_: People, asked: Asked) -> None:
    page = as_("admin")
    page.goto(f"{platform.url}/approvals")
    card = page.locator(f"#approval-{asked.approval}")
    card.get_by_label("Reason").fill("trust me")
    card.get_by_role("button", name="Grant").click()
    expect(card.get_by_role("alert")).to_contain_text("admin asked for this and cannot grant it")
    expect(card.get_by_label("Reason")).to_have_value("trust me")
    card.get_by_role("button", name="Reject").click()
    expect(page.locator(f"#approval-{asked.approval}").get_by_text("Rejected.")).to_be_visible()


def test_a_new_request_appears_before_whoever_waits(platform: Platform, as_: People, tmp_path: Path) -> None:
    page = as_("compliance")
    page.goto(f"{platform.url}/topics/model.registered")
    expect(page.locator("#live")).to_have_text("live")
    name = "appears-live"
    platform.as_("data-scientist").register(package(tmp_path, name, 30), unit="retail")
    event = page.locator(".event").filter(has_text=name).first
    expect(event).to_be_visible()
    event.locator("summary").click()
    expect(event.locator("pre")).to_contain_text('"verdict": "clean"')


def test_the_overview_tells_the_loop_and_what_waits(platform: Platform, as_: People, asked: Asked) -> None:
    page = as_("executive")
    page.goto(platform.url)
    expect(page.locator(".loop .node")).to_have_count(6)
    expect(page.get_by_role("link", name=f"{asked.model} v1 for {asked.endpoint}")).to_be_visible()
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator(".ticker .type").first).to_be_visible()


def test_a_dead_letter_is_read_and_given_out_again(platform: Platform, as_: People) -> None:
    _say(platform, "model.retired", b"this is no JSON")
    page = as_("admin")
    page.goto(f"{platform.url}/dead-letters?topic=model.retired")
    row = page.get_by_role("row").filter(has_text="deployer").first
    expect(row).to_be_visible()
    expect(row.get_by_text("waiting")).to_be_visible()
    row.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("1 of dlq.model.retired given out again")).to_be_visible()


def _say(platform: Platform, topic: str, value: bytes) -> None:
    producer = Producer(dict(Connection.read(platform.kafka).properties))
    said = {"ce_id": str(uuid4()), "ce_source": "/test", "ce_type": topic, "ce_unit": "retail", "ce_specversion": "1.0"}
    producer.produce(topic, value, b"x", headers=[(name, text.encode()) for name, text in said.items()])
    assert producer.flush(10) == 0


def test_the_ledger_is_verified_at_a_click(platform: Platform, as_: People, asked: Asked) -> None:
    page = as_("compliance")
    page.goto(f"{platform.url}/audit")
    page.get_by_role("button", name="Verify the ledger").click()
    expect(page.get_by_text("The ledger is whole.")).to_be_visible()
    page.get_by_label("Subject").fill(asked.endpoint)
    rows = page.locator("#rows tbody tr")
    expect(rows.filter(has_text="deployment.requested").first).to_be_visible()


def test_who_may_not_read_the_ledger_is_told_which_roles_may(platform: Platform, as_: People, asked: Asked) -> None:
    page = as_("engineer")
    page.goto(f"{platform.url}/audit")
    expect(page.get_by_text("it takes one of the roles")).to_be_visible()
    expect(page.get_by_role("button", name="Verify the ledger")).to_have_count(0)
    expect(page.get_by_label("Subject")).to_have_count(0)


def test_in_a_narrow_window_no_part_of_an_event_lies_over_another(
    platform: Platform, as_: People, asked: Asked
) -> None:
    page = as_("engineer")
    page.set_viewport_size({"width": 420, "height": 900})
    page.goto(platform.url)
    line = page.locator(".ticker li", has_text=asked.endpoint).first
    expect(line).to_be_visible()
    assert line.evaluate("line => [...line.children].every(part => part.scrollWidth <= part.clientWidth)")


@pytest.mark.parametrize("path", ["/", "/models", "/endpoints", "/topics", "/approvals", "/alerts", "/audit"])
def test_no_page_is_wider_than_a_narrow_window(platform: Platform, as_: People, asked: Asked, path: str) -> None:
    page = as_("compliance")
    page.set_viewport_size({"width": 420, "height": 900})
    page.goto(platform.url + path)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_says_that_its_session_has_ended(platform: Platform, browser: Browser) -> None:
    page = browser.new_context().new_page()
    platform.sign_in(page, "engineer")
    page.goto(f"{platform.url}/topics/model.registered")
    expect(page.locator("#live")).to_have_text("live")
    page.context.clear_cookies()
    page.evaluate("document.body.dispatchEvent(new CustomEvent('refresh'))")
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended.")
    page.get_by_role("link", name="Sign in again").click()
    expect(page).to_have_url(re.compile(r"/login\?next=%2Ftopics%2Fmodel.registered"))
    page.context.close()


def test_another_units_people_see_none_of_it(platform: Platform, as_: People, asked: Asked) -> None:
    page = as_("other-unit")
    for path in ("/models", "/approvals", "/endpoints", "/"):
        page.goto(platform.url + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text(asked.model)).to_have_count(0)


def test_models_are_found_as_one_types(platform: Platform, as_: People, asked: Asked) -> None:
    page = as_("data-scientist")
    page.goto(f"{platform.url}/models")
    page.get_by_label("Search models").press_sequentially(asked.model)
    _only(page, asked.model)
    page.get_by_label("Search models").fill("there-is-none-of-it")
    expect(page.get_by_text("No model matches")).to_be_visible()


def _only(page: Page, name: str) -> None:
    expect(page.locator("#model-list tbody tr")).to_have_count(1)
    expect(page.get_by_role("link", name=name)).to_be_visible()


def test_the_drift_chart_draws_the_windows_that_the_monitor_closed(
    platform: Platform, as_: People, asked: Asked
) -> None:
    platform.as_("compliance").approve(asked.approval, "for the chart")
    page = as_("engineer")
    page.route("**/series", lambda route: route.fulfill(json={"problem": None, "windows": _windows()}))
    _open_endpoint(page, f"{platform.url}/endpoints/{asked.endpoint}")
    chart = page.locator('[data-chart="evidence"]')
    expect(chart).to_have_attribute("data-windows", "12")
    expect(page.locator("[data-chart] canvas")).to_have_count(3)
    chart.locator(".u-over").hover(position={"x": 5, "y": 40})
    expect(chart.locator(".u-legend")).to_contain_text("Evidence")
    expect(chart.locator(".u-legend .u-value").nth(1)).not_to_have_text("–")


def test_what_followed_from_decisions_stands_on_the_endpoints_page(
    platform: Platform, as_: People, asked: Asked
) -> None:
    platform.as_("compliance").approve(asked.approval, "for the figures")
    page = as_("engineer")
    _open_endpoint(page, f"{platform.url}/endpoints/{asked.endpoint}")
    page.get_by_role("link", name="Performance").press("Enter")
    _renewed(page, "POST /v1/outcomes")
    _decide(platform, asked.endpoint)

    _renewed(page, "Windows of outcomes")
    page.reload()
    overall = page.get_by_role("region", name="Performance by version")
    accuracy = overall.get_by_role("row").filter(has_text="Accuracy")
    expect(accuracy).to_contain_text(re.compile(r"0\.900\s*0\.\d{3} to 0\.\d{3}\s*200 rows"))
    chart = page.locator('[data-chart="performance"]')
    expect(chart).to_have_attribute("data-windows", re.compile("[12]"))
    expect(chart.locator("canvas")).to_be_visible()
    page.get_by_role("link", name="Macro recall").press("Enter")
    expect(page.get_by_role("heading", name="Macro recall by window")).to_be_visible()

    page.get_by_role("link", name="Fairness").press("Enter")
    measure = page.get_by_role("row").filter(has_text="Demographic parity difference")
    expect(measure).to_contain_text("breached")
    expect(page.get_by_role("region", name="Rates by age").get_by_role("row")).to_have_count(5)

    page.get_by_role("link", name="Service level").press("Enter")
    _renewed(page, "99 % of requests within 50 ms")
    expect(page.locator(".figure", has_text="Answered").locator(".value")).to_have_text("1")
    expect(page.locator(".figure", has_text="Cost of 1 000 inferences")).to_contain_text("no prices are set")
    page.get_by_role("link", name="7 days").press("Enter")
    expect(page).to_have_url(re.compile("span=7d"))
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")

    page.set_viewport_size({"width": 420, "height": 900})
    for part in ("", "/service", "/performance", "/comparison", "/fairness"):
        page.goto(f"{platform.url}/endpoints/{asked.endpoint}{part}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), part


def _renewed(page: Page, text: str) -> None:
    """The part of the page that renews itself comes to say so."""
    for _ in range(100):
        if page.get_by_text(text).count():
            return
        page.evaluate("document.body.dispatchEvent(new CustomEvent('refresh'))")
        page.wait_for_timeout(300)
    raise AssertionError(page.locator("main").inner_text())


def _decide(platform: Platform, endpoint: str) -> None:
    """One request of people of all ages; of ten outcomes one turns out otherwise."""
    ages = [n / 2 for n in range(200)]
    application = platform.as_("application")
    told = _served(lambda: application.score(endpoint, [[age, 1000.0] for age in ages]))
    labels = [int(age > 40) ^ int(n % 10 == 0) for n, age in enumerate(ages)]
    application.outcomes(
        {"inference_id": told.inference_id, "row": n, "label": label} for n, label in enumerate(labels)
    )


def _served(score: Callable[[], Scores]) -> Scores:
    """What a scorer answers as soon as it has loaded the model."""
    for _ in range(100):
        try:
            return score()
        except FairleadError:
            time.sleep(0.3)
    return score()


def _open_endpoint(page: Page, address: str) -> None:
    """The endpoint is there as soon as the deployer has heard of the grant."""
    for _ in range(50):
        page.goto(address)
        if page.locator('[data-chart="evidence"]').count():
            return
        page.wait_for_timeout(200)
    raise AssertionError("the endpoint did not appear")


def _windows() -> list[dict[str, object]]:
    """Ten calm windows, then two beyond the alarm line, the last of another version."""
    evidence = [*range(1, 11), 90, 240]
    return [
        {
            "to": f"2026-01-01T10:{n:02}:00Z", "rows": 100 * n, "version": 1 + (n == 11), "statistic": value,
            "threshold": 13.8, "latency": {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0},
        }
        for n, value in enumerate(evidence)
    ]  # fmt: skip
