"""The deployer over HTTP: what a hostile caller may send."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest

from contracts import Service
from services.deployer import api
from services.deployer.settings import DeployerSettings
from services.kit.service import Parts, application
from services.kit.tokens import mint

from .conftest import House, registered, report


@pytest.fixture
def client(house: House, home: Path, service_url: Callable[[Service], str]) -> httpx.AsyncClient:
    settings = DeployerSettings(home=home, service_database=service_url("deployer"))
    app = application(Parts("deployer", settings, house.db, routers=[api.router(house.deployer)]))
    token = mint(home / "keys" / "issuer.key", "engineer", ["engineer"], ["retail"], "person")
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://deployer",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )  # fmt: skip


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
    assert version == 10**30 or answer.json()["field"] == "version"


def _huge() -> bytes:
    return (
        b'{"endpoint": "credit", "use_case": "lending", "model": "credit", "version": 1000000000000000000000000000000}'
    )


async def posted(client: httpx.AsyncClient, path: str, body: Any = None) -> httpx.Response:
    return await client.post(f"/v1/{path}", content=b"" if body is None else orjson.dumps(body))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"strategy": "half"}, "strategy"), ({"strategy": "canary"}, "weight"),
        ({"strategy": "canary", "weight": 0}, "weight"), ({"strategy": "canary", "weight": 1}, "weight"),
        ({"strategy": "canary", "weight": "0.1"}, "weight"), ({"strategy": "ab", "weight": 0.00001}, "weight"),
        ({"strategy": "bandit", "weight": 0.1}, "weight"), ({"strategy": "shadow", "variant": "No Name"}, "variant"),
        ({"strategy": "shadow", "variant": "champion"}, "variant"), ({"variant": "mine"}, "variant"),
        ({"strategy": "canary", "weight": True}, "weight"),
    ],
)  # fmt: skip
async def test_a_strategy_that_cannot_be_is_refused_and_the_field_is_named(
    client: httpx.AsyncClient, house: House, wrong: dict[str, Any], field: str
) -> None:
    await house.knows()
    ask = {"endpoint": "credit", "use_case": "lending", "model": "credit", "version": 1} | wrong
    answer = await posted(client, "deployments", ask)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_who_registers_and_deploys_in_one_breath_is_not_told_that_there_is_no_such_model(
    client: httpx.AsyncClient, house: House
) -> None:
    ask = {"endpoint": "credit", "use_case": "lending", "model": "credit", "version": 1, "strategy": "direct"}
    asking = asyncio.create_task(posted(client, "deployments", ask))
    await asyncio.sleep(0.3)
    assert not asking.done()
    await house.knows(registered(1))
    assert (await asking).status_code == 202
    absent = await posted(client, "deployments", ask | {"version": 7})
    assert absent.status_code == 404 and "version 7" in absent.json()["detail"]


async def test_a_canary_is_asked_for_shown_weighed_promoted_and_taken_away(
    client: httpx.AsyncClient, house: House
) -> None:
    await house.knows(registered(1), registered(2))
    ask = {"endpoint": "credit", "use_case": "lending", "model": "credit", "version": 2, "strategy": "canary"}
    early = await posted(client, "deployments", ask | {"weight": 0.1})
    assert (early.status_code, "serves none" in early.json()["detail"]) == (409, True)
    await house.serves(1)
    asked = (await posted(client, "deployments", ask | {"weight": 0.1, "variant": "bold"})).json()
    assert (asked["strategy"], asked["variant"], asked["weight"]) == ("canary", "bold", 0.1)
    await house.is_granted(await house.deployment(UUID(asked["id"])))
    await house.hears(house.deployer.note_replica, report("credit", 2), "*")
    shown = (await client.get("/v1/endpoints/credit")).json()
    assert (shown["version"], shown["routing"]["strategy"]) == (1, "canary")
    assert [(v["name"], v["role"], v["weight"]) for v in shown["variants"]] == [
        ("champion", "live", 0.9), ("bold", "live", 0.1),
    ]  # fmt: skip
    weighed = await posted(client, "endpoints/credit/weight", {"weight": 0.5})
    assert [v["weight"] for v in weighed.json()["variants"]] == [0.5, 0.5]
    for body, field in (({"weight": 2}, "weight"), ({}, "weight"), ({"weight": 0.1, "variant": 7}, "variant")):
        refused = await posted(client, "endpoints/credit/weight", body)
        assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert (await posted(client, "endpoints/credit/rollback", {"variant": "shy"})).status_code == 404
    promoted = await posted(client, "endpoints/credit/promote")
    assert (promoted.status_code, promoted.json()["version"], promoted.json()["routing"]) == (202, 2, None)
    assert (await posted(client, "endpoints/credit/promote")).status_code == 409
    await house.hears(house.deployer.note_replica, report("credit", promoted.json()["revision"]), "*")
    assert (await posted(client, "endpoints/credit/rollback")).json()["version"] == 1
