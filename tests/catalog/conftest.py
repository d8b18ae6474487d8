"""The catalog as it runs: its own role in a fresh database, its own home, real tokens, real sandbox."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from contracts import Service
from services.catalog.app import build
from services.catalog.settings import CatalogSettings
from services.kit.service import Parts, application

from .hearing import House

Client = Callable[[str], httpx.AsyncClient]


@pytest.fixture
def settings(home: Path, service_url: Callable[[Service], str]) -> CatalogSettings:
    return CatalogSettings(home=home, service_database=service_url("catalog"), max_package_bytes=4 * 1024 * 1024)


@pytest.fixture
async def parts(settings: CatalogSettings) -> AsyncIterator[Parts]:
    made = build(settings)
    yield made
    assert made.db is not None
    await made.db.close()


@pytest.fixture
async def house(parts: Parts, settings: CatalogSettings) -> House:
    """The catalog's use cases, handlers and job over its database, and a champion in it."""
    assert parts.db is not None
    made = House(parts.db, settings)
    await made.has_champion()
    return made


@pytest.fixture
async def as_(parts: Parts, home: Path) -> AsyncIterator[Client]:
    """`as_("engineer")`: an HTTP client with that person's token."""
    app = application(parts)
    async with AsyncExitStack() as stack:
        clients: dict[str, httpx.AsyncClient] = {}

        def client(who: str) -> httpx.AsyncClient:
            token = (home / "tokens" / f"{who}.jwt").read_text().strip() if who else ""
            headers = {"authorization": f"Bearer {token}"} if token else {}
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            clients[who] = httpx.AsyncClient(transport=transport, base_url="http://catalog", headers=headers)
            stack.push_async_callback(clients[who].aclose)
            return clients[who]

        yield client
