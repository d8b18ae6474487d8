"""A scorer host of a test's own, beside the session's broker and database."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from contracts import Service
from deploy.embedded.home import Home

from .hosting import Host
from .making import House


@pytest.fixture
def endpoint() -> str:
    """A name of this test's own: the session's topics are shared."""
    return f"credit-{uuid4().hex[:8]}"


@pytest.fixture
def clients(installation: Home, kafka: Path) -> dict[str, Path]:
    """Client properties of those who speak or read in these tests."""
    return {name: installation.client_properties(name) for name in ("scorer", "deployer", "operator")}


@pytest.fixture
async def host(tmp_path: Path, clients: dict[str, Path], service_url: Callable[[Service], str]) -> AsyncIterator[Host]:
    """Started; it must stop cleanly."""
    made = Host(House(tmp_path / "scorer"), clients, service_url("scorer"), FAIRLEAD_USAGE_S="2")
    made.start()
    yield made
    print(made.log_text()[-5000:])  # shown with a failure
    if made.process and made.process.poll() is None:
        assert made.stop() == 0, made.log_text()[-3000:]
