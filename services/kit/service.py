"""Runs a service: HTTP, bus, relay and jobs as one process that starts and stops cleanly."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI

from contracts import Service

from .again import again
from .auth import Verifier
from .bus import Bus, Subscription
from .collector import settle
from .db import Database
from .embedded import EmbeddedIssuer, check_embedded
from .health import Progress
from .http import make_app
from .idempotency import IdempotentRoute
from .outbox import Relay, tidy
from .plain_http import PlainHttp
from .release import version
from .settings import Settings, from_environment
from .telemetry import configure_logging, get_logger

log = get_logger(__name__)

Job = Callable[[], Awaitable[None]]
S = TypeVar("S", bound=Settings)


@dataclass
class Parts:
    """What a service is made of; `app.py` puts it together."""

    service: Service
    settings: Settings
    db: Database | None = None
    routers: Sequence[APIRouter] = ()
    subscriptions: Sequence[Subscription] = ()
    jobs: Sequence[Job] = ()
    closing: Sequence[Callable[[], Awaitable[None]]] = ()
    """What several parts share is closed when the service ends, after the jobs that may still use it."""
    progress: Progress = field(default_factory=Progress)
    large_bodies: dict[str, int] = field(default_factory=dict[str, int])
    """Paths, and beginnings that end with /, whose caps in bytes are not that of the rest."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process shall end: answers without an end (event streams) listen to it."""
    prepare: Callable[[FastAPI], None] | None = None
    """Last word on the HTTP application, for what is not a router."""
    collect_after: int = 20_000
    """New objects until the collector looks for garbage: who folds batches of records holds many, and none of it."""


def router(**options: Any) -> APIRouter:
    """A router whose writes take an `Idempotency-Key`."""
    return APIRouter(route_class=IdempotentRoute, **options)


def application(parts: Parts) -> FastAPI:
    """The service's HTTP application alone, as tests use it."""
    verifier = Verifier(parts.settings)
    app = make_app(
        parts.service, version(), parts.routers, verifier, parts.progress,
        max_body_bytes=parts.settings.max_body_bytes, large_bodies=parts.large_bodies,
    )  # fmt: skip
    app.state.db, app.state.verifier = parts.db, verifier
    if parts.prepare:
        parts.prepare(app)
    return app


def run(build: Callable[[S], Parts], settings: type[S]) -> None:
    """Run a service until SIGTERM; exits 0 after what was in hand is finished."""
    given = from_environment(settings)
    try:
        check_embedded(given)
    except EmbeddedIssuer as error:
        sys.exit(f"error: {error}")
    parts = build(given)
    configure_logging(parts.service, given.log_level)
    settle(parts.collect_after)
    uvloop.run(_serve(parts))
    log.info("stopped")
    sys.stdout.flush()


async def _serve(parts: Parts) -> None:
    settings = parts.settings
    config = uvicorn.Config(
        application(parts), host=settings.host, port=settings.listen_port(parts.service), http=PlainHttp,
        loop="none", log_config=None, access_log=False, timeout_graceful_shutdown=15, lifespan="off",
        server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    work = [asyncio.create_task(again(name, job, parts.progress), name=name) for name, job in _work(parts)]

    def stop(number: signal.Signals) -> None:
        parts.stopping.set()
        server.handle_exit(number, None)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    log.info("starting", port=config.port)
    try:
        await server._serve()  # pyright: ignore[reportPrivateUsage]  # uvicorn's serve() would take the signal handlers for itself
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work or [asyncio.create_task(asyncio.sleep(0))], timeout=5)
        await close(parts)


async def close(parts: Parts) -> None:
    """Close what the jobs shared, now that they have ended."""
    for shared in parts.closing:
        await shared()
    if parts.db:
        await parts.db.close()


def _work(parts: Parts) -> list[tuple[str, Job]]:
    jobs: list[tuple[str, Job]] = [(getattr(job, "__qualname__", repr(job)), job) for job in parts.jobs]
    if parts.db is None:
        return jobs
    db = parts.db
    jobs.append(("outbox", Relay(parts.settings, db, parts.progress).run))
    jobs.append(("tidy", lambda: tidy(db)))
    if parts.subscriptions:
        jobs.append(("bus", lambda: Bus(parts.settings, parts.service, db, parts.subscriptions, parts.progress).run()))
    return jobs
