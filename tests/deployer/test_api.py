"""The deployer over HTTP: what a hostile caller may send."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from contracts import Service
from services.deployer import api
from services.deployer.settings import DeployerSettings
from services.kit.service import Parts, application
from services.kit.tokens import mint

from .conftest import House


@pytest.fixture
def client(house: House, home: Path, service_url: Callable[[Service], str]) -> httpx.AsyncClient:
    settings = DeployerSettings(home=home, service_database=service_url("deployer"))
    app = application(Parts("deployer", settings, house.db, routers=[api.router(house.deployer)]))
    token = mint(home / "keys" / "issuer.key", "engineer", ["engineer"], ["retail"], "person")
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://deployer", headers={"Authorization": f"Bearer {token}"}
    )


def cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


@pytest.mark.parametrize(("path", "place"), [
    ("deployments", cursor("0001-01-01T00:00:00+14:00", str(uuid4()))),
    ("deployments", cursor("9999-12-31T23:59:59-14:00", str(uuid4()))),
    ("deployments", cursor("2026-01-01T00:00:00", 7)), ("deployments", cursor(None, None)),
    ("deployments", "%00"), ("endpoints", cursor("a\x00b")), ("endpoints", cursor(7)), ("endpoints", "é"),
])  # fmt: skip
async def test_a_cursor_that_no_list_made_is_refused(client: httpx.AsyncClient, path: str, place: str) -> None:
    answer = await client.get(f"/v1/{path}", params={"cursor": place})
    assert (answer.status_code, answer.json()["field"]) == (422, "cursor")


async def test_a_cursor_of_a_moment_without_a_zone_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/deployments", params={"cursor": cursor("2026-01-01T00:00:00", str(uuid4()))})
    assert answer.status_code == 422


@pytest.mark.parametrize("version", [0, -1, 2**31, 10**30, True, "1", 1.5])
async def test_a_version_that_cannot_be_is_refused(client: httpx.AsyncClient, version: Any) -> None:
    ask = {"endpoint": "credit", "use_case": "lending", "model": "credit", "version": version}
    answer = await client.post("/v1/deployments", content=orjson.dumps(ask) if version != 10**30 else _huge())
    assert answer.status_code == 422


def _huge() -> bytes:
    return (
        b'{"endpoint": "credit", "use_case": "lending", "model": "credit", "version": 1000000000000000000000000000000}'
    )
