"""What every service answers over HTTP, and what it does with bad input."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from services.kit.auth import Verifier, allow
from services.kit.context import Caller, current
from services.kit.errors import Busy, Conflict, NotFound, Unauthorized
from services.kit.health import Progress
from services.kit.http import Body, Who, make_app
from services.kit.settings import Settings

ENGINEER = Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"}))


class KnownTokens(Verifier):
    """Knows one token; the real one's proofs are tested where it lives."""

    def __init__(self) -> None:
        super().__init__(Settings())

    def verify(self, token: str) -> Caller:
        if token != "engineer-token":
            raise Unauthorized("the token is not valid: unknown")
        return ENGINEER


class Ask(Body):
    name: str
    amount: float = 1.0
    count: int = 1


def routes() -> APIRouter:
    router = APIRouter()

    @router.post("/v1/asks")
    async def ask(body: Ask, caller: Who) -> dict[str, Any]:
        return {"name": body.name, "actor": caller.actor, "correlation_id": current().correlation_id}

    @router.get("/v1/things/{name}")
    async def thing(name: str, caller: Who) -> None:
        allow(caller, "approval.decide" if name == "forbidden" else "catalog.read")
        kinds = {"missing": NotFound("no such thing"), "taken": Conflict("taken"), "busy": Busy("later")}
        if name in kinds:
            raise kinds[name]
        raise ValueError("a bug")

    return router


@pytest.fixture
def progress() -> Progress:
    return Progress()


@pytest.fixture
def app(progress: Progress) -> FastAPI:
    return make_app("catalog", "1", [routes()], KnownTokens(), progress, max_body_bytes=2000)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://catalog") as client:
        client.headers["Authorization"] = "Bearer engineer-token"
        yield client


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) <= 2048
    assert answer.json()["status"] == status
    return answer.json()


async def test_a_caller_is_known_by_the_token(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/asks", json={"name": "a"})
    assert answer.json()["actor"] == "engineer"


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}])
async def test_without_a_valid_token_nothing_is_done(app: FastAPI, header: dict[str, str]) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://catalog") as http:
        answer = await http.post("/v1/asks", json={"name": "a"}, headers=header)
    problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_of_two_tokens_none_is_taken(http: httpx.AsyncClient) -> None:
    token = http.headers.pop("authorization")
    both = [("authorization", token), ("authorization", token)]
    answer = await http.post("/v1/asks", json={"name": "a"}, headers=both)
    assert problem(answer, 401)["detail"] == "send one Authorization header, not several"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"amount": 1}', "name"),
        ('{"name": 7}', "name"),
        ('{"name": "a", "amount": "7"}', "amount"),
        ('{"name": "a", "amount": NaN}', "amount"),
        ('{"name": "a", "amount": Infinity}', "amount"),
        ('{"name": "a", "amount": 1e400}', "amount"),
        ('{"name": "a", "count": true}', "count"),
        ('{"name": "a", "count": 1.5}', "count"),
        ('{"name": "a", "typo": 1}', "typo"),
        ('{"name": "\\ud800"}', ""),
        ("not json", ""),
        ("[]", ""),
        ("", ""),
        ('{"name": "' + "x" * 1500 + '", "amount": "y"}', "amount"),
    ],
)
async def test_bad_input_gets_an_error_that_names_the_field(http: httpx.AsyncClient, body: str, field: str) -> None:
    answer = await http.post("/v1/asks", content=body.encode(), headers={"Content-Type": "application/json"})
    assert field in problem(answer, 422)["detail"]


async def test_a_body_beyond_the_cap_is_refused(http: httpx.AsyncClient) -> None:
    problem(await http.post("/v1/asks", json={"name": "x" * 5000}), 413)


async def test_a_chunked_body_beyond_the_cap_is_refused(http: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 1000

    problem(await http.post("/v1/asks", content=chunks(), headers={"Content-Type": "application/json"}), 413)


@pytest.mark.parametrize(("name", "status"), [("missing", 404), ("taken", 409), ("busy", 429), ("forbidden", 403)])
async def test_a_refusal_becomes_a_problem(http: httpx.AsyncClient, name: str, status: int) -> None:
    problem(await http.get(f"/v1/things/{name}"), status)


async def test_a_bug_tells_the_caller_nothing_of_the_inside(http: httpx.AsyncClient) -> None:
    assert "a bug" not in json.dumps(problem(await http.get("/v1/things/bug"), 500))


async def test_a_bug_is_told_and_logged_under_the_story_in_which_it_happened(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr("services.kit.http.log", Logged(logged))
    answer = await http.get("/v1/things/bug", headers={"fairlead-correlation-id": "the-clients-own-story"})
    assert answer.headers["fairlead-correlation-id"] == "the-clients-own-story"
    assert logged == ["the-clients-own-story"]


class Logged:
    """Notes in which story something was logged."""

    def __init__(self, stories: list[str]) -> None:
        self._stories = stories

    def error(self, *_: Any, **__: Any) -> None:
        self._stories.append(current().correlation_id)


async def test_an_unknown_path_and_method_are_problems_too(http: httpx.AsyncClient) -> None:
    problem(await http.get("/v1/nothing"), 404)
    problem(await http.delete("/v1/asks"), 405)


async def test_the_story_of_a_caller_is_continued(http: httpx.AsyncClient) -> None:
    mine = {"Fairlead-Correlation-Id": "0195-my-story"}
    answer = await http.post("/v1/asks", json={"name": "a"}, headers=mine)
    assert answer.json()["correlation_id"] == "0195-my-story" == answer.headers["fairlead-correlation-id"]


@pytest.mark.parametrize("value", ["x", "a" * 100, "new\tline-abc", "ümlaut-abcdef"])
async def test_a_correlation_id_that_could_hurt_a_log_is_replaced(http: httpx.AsyncClient, value: str) -> None:
    headers = {"Fairlead-Correlation-Id": value.encode("utf-8", "replace")}
    answer = await http.post("/v1/asks", json={"name": "a"}, headers=headers)  # pyright: ignore
    assert answer.json()["correlation_id"] != value


async def test_a_service_is_ready_when_every_part_made_progress(http: httpx.AsyncClient, progress: Progress) -> None:
    progress.expect("outbox", grace_s=0.0)
    assert (await http.get("/readyz")).status_code == 503
    progress.beat("outbox")
    assert (await http.get("/readyz")).status_code == 200
    progress.fail("outbox", "Kafka is away")
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["problems"] == {"outbox": "Kafka is away"}


async def test_health_metrics_and_documents_need_no_token(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://catalog") as http:
        for path in ("/livez", "/metrics", "/openapi.json", "/asyncapi.json"):
            assert (await http.get(path)).status_code == 200, path


async def test_metrics_from_elsewhere_need_a_token(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app=app, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://catalog") as http:
        assert (await http.get("/metrics")).status_code == 401
