"""The console as it runs, on the session's broker; and a peer that stands where a service would."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from deploy.embedded.home import Home
from deploy.embedded.standalone import free_home
from services.console.app import build
from services.console.settings import ConsoleSettings
from services.kit.kafka import Connection
from services.kit.service import Parts, application, close
from services.kit.testing import eventually

Say = Callable[..., Awaitable[tuple[int, int]]]
Client = Callable[[str], httpx.AsyncClient]


@pytest.fixture
def settings(kafka: Path, home: Path, tmp_path: Path) -> ConsoleSettings:
    properties = home / "secrets" / "kafka" / "console.properties"
    return ConsoleSettings(home=home, port=free_home(tmp_path).port, kafka_properties=properties, streams=3)


@pytest.fixture
def parts(settings: ConsoleSettings) -> Parts:
    return build(settings)


@pytest.fixture
async def url(parts: Parts, settings: ConsoleSettings) -> AsyncIterator[str]:
    """The address of a running console."""
    async with serving(application(parts), settings.port):
        yield f"http://127.0.0.1:{settings.port}"
        parts.stopping.set()
    await close(parts)


@pytest.fixture
async def as_(url: str, home: Path) -> AsyncIterator[Client]:
    """`as_("engineer")`: a client with that person's token; `as_("")` without one."""
    made: list[httpx.AsyncClient] = []

    def client(who: str) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {(home / 'tokens' / f'{who}.jwt').read_text()}"} if who else {}
        made.append(httpx.AsyncClient(base_url=url, headers=headers, timeout=20))
        return made[-1]

    yield client
    for one in made:
        await one.aclose()


@pytest.fixture
async def say(kafka: Path, installation: Home) -> AsyncIterator[Say]:
    """Write a record into any topic, as the launcher may: (partition, offset)."""
    producer = AIOKafkaProducer(**Connection.read(kafka).aiokafka(), enable_idempotence=True)
    await producer.start()

    async def write(topic: str, value: bytes = b"{}", *, partition: int = 0, **headers: str) -> tuple[int, int]:
        raw = [(name, text.encode()) for name, text in headers.items()]
        written = await producer.send_and_wait(topic, value, b"key", partition=partition, headers=raw)
        return written.partition, written.offset

    yield write
    await producer.stop()


@dataclass
class Peer:
    """What stands at a service's port: it notes what came and answers what it is told to."""

    seen: list[tuple[Request, bytes]] = field(default_factory=list[Any])
    endpoints: dict[str, str] = field(default_factory=dict[str, str])
    """As the deployer: which token's bearer sees which endpoint."""
    alerts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """As the governor."""
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    silences: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    routes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    away: bool = False
    """Whether it cannot say what a route is."""

    def _endpoints(self, request: Request) -> list[str]:
        return [e for e, token in self.endpoints.items() if request.headers["authorization"] == f"Bearer {token}"]

    async def answer(self, request: Request) -> Response:
        pieces = [piece async for piece in request.stream()]
        self.seen.append((request, b"".join(pieces)))
        match request.url.path:
            case "/readyz":
                return JSONResponse({"status": "ready", "problems": {}})
            case "/v2/models/slow":
                return StreamingResponse(_slowly(), headers={"connection": "x-mine", "x-mine": "1", "x-yours": "2"})
            case "/v1/endpoints":
                first, known = int(request.query_params.get("cursor", 0)), self._endpoints(request)
                last = first + min(int(request.query_params["limit"]), 200)
                following = str(last) if known[last:] else None
                return JSONResponse({"items": [{"endpoint": e} for e in known[first:last]], "next": following})
            case path if path.startswith("/v1/endpoints/"):
                known = path.removeprefix("/v1/endpoints/") in self._endpoints(request)
                return JSONResponse({} if known else {"detail": "there is no such endpoint"}, 200 if known else 404)
            case "/v1/models/long":
                last = int(request.query_params.get("cursor", 121))
                numbers = range(last - 1, max(0, last - 1 - int(request.query_params["limit"])), -1)
                shown = [{"version": n, "training": {"metrics": {}}} for n in numbers]
                following = str(numbers[-1]) if numbers[-1] > 1 else None
                return JSONResponse({"model": "long", "versions": shown, "next": following})
            case "/v1/alerts":
                return JSONResponse({"items": self.alerts})
            case "/v1/alert-messages":
                return JSONResponse({"items": self.messages})
            case "/v1/alert-silences":
                asked, limit = request.query_params.getlist("state"), int(request.query_params["limit"])
                found = [each for each in self.silences if not asked or each["state"] in asked]
                return JSONResponse({"items": found[:limit], "next": "more" if found[limit:] else None})
            case "/v1/alert-routes":
                limit = int(request.query_params["limit"])
                return JSONResponse({"items": self.routes[:limit], "next": "more" if self.routes[limit:] else None})
            case path if path.startswith("/v1/alert-routes/") and request.method == "GET":
                known = any(route["name"] == path.removeprefix("/v1/alert-routes/") for route in self.routes)
                status = 503 if self.away else 200 if known else 404
                return JSONResponse({"detail": "the database is away"} if self.away else {}, status)
            case "/v1/models/gone":
                return JSONResponse({"title": "Not found", "status": 404, "detail": "there is no model gone"}, 404)
            case _:
                return PlainTextResponse("here", headers={"set-cookie": "a=b"})


async def _slowly() -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"%d" % number
        await asyncio.sleep(0.2)


@pytest.fixture
async def catalog(settings: ConsoleSettings) -> AsyncIterator[Peer]:
    peer = Peer()
    async with serving(_app(peer), settings.listen_port("catalog")):
        yield peer


@pytest.fixture
async def deployer(settings: ConsoleSettings) -> AsyncIterator[Peer]:
    peer = Peer()
    async with serving(_app(peer), settings.listen_port("deployer")):
        yield peer


@pytest.fixture
async def governor(settings: ConsoleSettings) -> AsyncIterator[Peer]:
    peer = Peer()
    async with serving(_app(peer), settings.listen_port("governor")):
        yield peer


@pytest.fixture
async def scorer(settings: ConsoleSettings) -> AsyncIterator[Peer]:
    peer = Peer()
    async with serving(_app(peer), settings.listen_port("scorer")):
        yield peer


def _app(peer: Peer) -> Starlette:
    methods = ["GET", "POST", "PUT", "DELETE"]
    return Starlette(routes=[Route("/{rest:path}", peer.answer, methods=methods)])


class serving:  # noqa: N801 — it reads as `async with serving(...)`
    """An application at a port of this machine, for the length of a block."""

    def __init__(self, app: Any, port: int) -> None:
        config = uvicorn.Config(app, port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
        self._server = uvicorn.Server(config)

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._server.serve())
        await eventually(lambda: self._server.started, within=10)

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task
