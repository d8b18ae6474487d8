"""The retrainer over HTTP: real PostgreSQL, real tokens, a real governor behind it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts import Service
from deploy.embedded.standalone import free_home
from services.governor.app import build as build_governor
from services.governor.settings import GovernorSettings
from services.kit.service import application
from services.retrainer.app import build
from services.retrainer.settings import RetrainerSettings

from .making import House
from .serving import serving

Client = Callable[[str], httpx.AsyncClient]


@pytest.fixture
def settings(home: Path, tmp_path: Path, service_url: Callable[[Service], str]) -> RetrainerSettings:
    return RetrainerSettings(
        home=home, port=free_home(tmp_path / "free").port, service_database=service_url("retrainer")
    )


@pytest.fixture
async def as_(settings: RetrainerSettings) -> AsyncIterator[Client]:
    """`as_("engineer")`: an HTTP client with that person's token."""
    parts = build(settings)
    app = application(parts)
    async with AsyncExitStack() as stack:

        def client(who: str) -> httpx.AsyncClient:
            token = (settings.home / "tokens" / f"{who}.jwt").read_text().strip()
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            made = httpx.AsyncClient(
                transport=transport, base_url="http://retrainer", headers={"authorization": f"Bearer {token}"}
            )
            stack.push_async_callback(made.aclose)
            return made

        yield client
    assert parts.db is not None
    await parts.db.close()


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) <= 2048
    return answer.json()


async def test_retrainings_are_listed_newest_first_and_by_pages(as_: Client, house: House) -> None:
    await house.knows()
    asked = [(await house.is_asked()).retraining_id for _ in range(3)]
    client = as_("engineer")
    first = (await client.get("/v1/retrainings", params={"limit": 2})).json()
    assert [job["id"] for job in first["items"]] == [str(asked[2]), str(asked[1])]
    rest = (await client.get("/v1/retrainings", params={"limit": 2, "cursor": first["next"]})).json()
    assert [job["id"] for job in rest["items"]] == [str(asked[0])]
    assert rest["next"] is None
    one = (await client.get(f"/v1/retrainings/{asked[0]}")).json()
    assert (one["state"], one["model"], one["unit"]) == ("requested", "threshold", "retail")


async def test_retrainings_are_listed_by_endpoint_and_by_model(as_: Client, house: House) -> None:
    await house.knows()
    here = (await house.is_asked()).endpoint
    there = (await house.is_asked(endpoint="elsewhere")).retraining_id
    client = as_("engineer")

    async def listed(**about: str) -> list[str]:
        return [job["id"] for job in (await client.get("/v1/retrainings", params=about)).json()["items"]]

    assert await listed(endpoint="elsewhere") == [str(there)]
    assert len(await listed(endpoint=here)) == 1
    assert len(await listed(model="threshold")) == 2
    assert await listed(model="another") == []
    assert await listed(model="threshold", endpoint="elsewhere", limit="1") == [str(there)]
    problem(await client.get("/v1/retrainings", params={"endpoint": "No Name"}), 422)


async def test_another_unit_sees_none_of_it(as_: Client, house: House) -> None:
    await house.knows()
    asked = await house.is_asked()
    other = as_("other-unit")
    assert (await other.get("/v1/retrainings")).json()["items"] == []
    problem(await other.get(f"/v1/retrainings/{asked.retraining_id}"), 404)
    problem(await other.post("/v1/reproductions", json={"model": "threshold", "version": 1}), 404)


async def test_a_reproduction_of_a_version_from_outside_is_refused(as_: Client, house: House) -> None:
    await house.knows()
    told = problem(await as_("engineer").post("/v1/reproductions", json={"model": "threshold", "version": 1}), 409)
    assert "came from outside" in told["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "threshold"}, "version"),
        ({"model": "threshold", "version": "1"}, "version"),
        ({"model": "threshold", "version": True}, "version"),
        ({"model": "No Such", "version": 1}, "model"),
        ({"model": "threshold", "version": 0}, "version"),
        ({"model": "threshold", "version": 1, "typo": 1}, "typo"),
    ],
)
async def test_a_bad_reproduction_is_refused_by_field(as_: Client, body: dict[str, Any], field: str) -> None:
    assert problem(await as_("engineer").post("/v1/reproductions", json=body), 422)["field"] == field


async def test_bad_places_in_lists_are_refused(as_: Client) -> None:
    client = as_("engineer")
    for query in ({"cursor": "nonsense"}, {"limit": 0}, {"limit": "many"}):
        problem(await client.get("/v1/retrainings", params=query), 422)
    problem(await client.get("/v1/retrainings/no-id"), 422)


async def test_the_application_may_not_ask(as_: Client) -> None:
    client = as_("application")
    problem(await client.post("/v1/retrainings", json={}), 403)
    problem(await client.post("/v1/reproductions", json={"model": "m", "version": 1}), 403)
    problem(await client.get("/v1/retrainings"), 403)


async def test_a_request_goes_to_the_governor_as_the_person_who_asks(
    as_: Client, settings: RetrainerSettings, service_url: Callable[[Service], str]
) -> None:
    body = {"endpoint": "nowhere", "reason": "it looks stale"}
    told = problem(await as_("engineer").post("/v1/retrainings", json=body), 503)
    assert "governor is away" in told["detail"]
    governor = build_governor(
        GovernorSettings(home=settings.home, port=settings.port, service_database=service_url("governor"))
    )
    async with serving(application(governor), settings.listen_port("governor")):
        told = problem(await as_("engineer").post("/v1/retrainings", json=body), 404)
        assert "there is no endpoint nowhere" in told["detail"]
        problem(await as_("engineer").post("/v1/retrainings", json={"endpoint": "nowhere"}), 422)
    assert governor.db is not None
    await governor.db.close()
