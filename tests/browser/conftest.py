"""A real browser before the console of a whole platform."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from deploy.embedded.home import Home
from deploy.embedded.secrets import LAUNCHER
from fairlead import Fairlead

from .making import package

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Root has no sandbox; the rest keeps a browser without a network from looking for one.
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass(frozen=True)
class Platform:
    """A running platform and the people who use it."""

    home: Home
    clients: dict[str, Fairlead] = field(default_factory=dict[str, Fairlead])

    @property
    def kafka(self) -> Path:
        """An administrator's client properties: what may write any topic."""
        return self.home.client_properties(LAUNCHER)

    @property
    def url(self) -> str:
        return self.home.url("console")

    def token(self, who: str) -> str:
        return (self.home.path / "tokens" / f"{who}.jwt").read_text().strip()

    def sign_in(self, window: Page, who: str) -> None:
        """As a person does who follows the link that the demo prints."""
        window.goto(f"{self.url}/login?token={self.token(who)}")
        window.get_by_role("button", name=f"Sign in as {who}").click()

    def as_(self, who: str) -> Fairlead:
        if who not in self.clients:
            self.clients[who] = Fairlead(self.url, self.token(who))
        return self.clients[who]


@pytest.fixture(scope="module")
def platform(house: Path) -> Iterator[Platform]:
    """The whole platform, as a user starts it."""
    port = urlsplit(json.loads((house / "endpoints.json").read_text())["console"]).port
    made = Platform(Home.of({"FAIRLEAD_HOME": str(house), "FAIRLEAD_PORT": str(port)}))
    yield made
    for client in made.clients.values():
        client.close()


@pytest.fixture(scope="module")
def browser(platform: Platform) -> Iterator[Browser]:
    """One browser for a file: while it is open, its event loop stands in the way of asynchronous tests."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed: looked for {', '.join(_BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield browser
        browser.close()


class People:
    """Browser windows by who sits before them; whatever a page complains of fails the test."""

    def __init__(self, browser: Browser, platform: Platform) -> None:
        self._browser = browser
        self._platform = platform
        self.complaints: list[str] = []
        self._windows: list[Page] = []

    def __call__(self, who: str) -> Page:
        window = self._browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        window.set_default_timeout(15_000)
        window.on("console", self._hear)
        window.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._windows.append(window)
        if who:
            self._platform.sign_in(window, who)
        return window

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def close(self) -> None:
        for window in self._windows:
            window.context.close()


@pytest.fixture
def as_(browser: Browser, platform: Platform) -> Iterator[People]:
    """`as_("engineer")`: a window in which that person is signed in."""
    people = People(browser, platform)
    yield people
    people.close()
    assert people.complaints == []


@dataclass(frozen=True)
class Asked:
    """A deployment that waits for a person."""

    model: str
    endpoint: str
    approval: str


@pytest.fixture
def asked(platform: Platform, tmp_path: Path) -> Asked:
    """A model of this test's own that the administrator asked to deploy."""
    name = f"older-{uuid4().hex[:8]}"
    fl = platform.as_("admin")
    fl.register_use_case(name, title="Who works?", owner="Labour", unit="retail", risk_tier=2, protected=[])
    fl.register(package(tmp_path, name, 40), unit="retail")
    endpoint = f"{name}-live"
    fl.deploy(endpoint, use_case=name, model=name, version=1)
    return Asked(name, endpoint, _waiting(fl, endpoint))


def _waiting(fl: Fairlead, endpoint: str) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for approval in fl.approvals():
            if approval.endpoint == endpoint:
                return approval.id
        time.sleep(0.2)
    raise AssertionError(f"no approval for {endpoint}: {[d.model_dump() for d in fl.deployments(endpoint=endpoint)]}")
