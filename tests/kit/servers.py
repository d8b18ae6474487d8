"""A real HTTP server on loopback that plays the servers which answer for models."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Answer = Callable[[Any], "Response | Awaitable[Response]"]


@dataclass
class Server:
    """What was asked of it, and what it answers: a function of the request's JSON."""

    url: str = ""
    answer: Answer = field(default=lambda _: Response("no answer was set", 500))
    asked: list[Any] = field(default_factory=list[Any])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    bodies: list[bytes] = field(default_factory=list[bytes])
    paths: list[str] = field(default_factory=list[str])


@asynccontextmanager
async def server() -> AsyncGenerator[Server]:
    """One that runs until the end of the block."""
    served = Server()

    async def answer(request: Request) -> Response:
        said = await request.json()
        served.asked.append(said)
        served.bodies.append(await request.body())
        served.headers.append(dict(request.headers))
        served.paths.append(request.url.path)
        made = served.answer(said)
        return made if isinstance(made, Response) else await made

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    task = asyncio.create_task(running.serve())
    while not running.started:
        await asyncio.sleep(0.01)
    served.url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        running.should_exit = running.force_exit = True
        await task
