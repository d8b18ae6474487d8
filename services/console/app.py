"""Wires the console: the pages, its own API, and the way on to every other service."""

from fastapi import FastAPI

from services.kit.kafka import Connection
from services.kit.service import Parts

from . import api
from .assets import Assets
from .gateway import Gateway
from .pages import errors, shell
from .pages import routers as pages
from .session import SessionMiddleware, Sessions, secret_of
from .settings import ConsoleSettings
from .usecases import Console

_PASSED_ON = ("/v1/", "/v2/", "/invocations/")
_OWN_WRITE = "/v1/dead-letters/replay"


def build(settings: ConsoleSettings) -> Parts:
    """The console's parts. Raises MissingAssets where the npm packages are not installed."""
    gateway = Gateway(settings)
    assets = Assets(settings.assets)
    sessions = Sessions(secret_of(settings.home))
    parts = Parts(
        service="console",
        settings=settings,
        closing=[gateway.close],
        large_bodies={**dict.fromkeys(_PASSED_ON, settings.max_passed_bytes), _OWN_WRITE: settings.max_body_bytes},
    )
    console = Console(Connection.read(settings.kafka_properties), gateway, settings.streams, parts.stopping)
    window = shell.Shell(gateway, console, sessions, assets)
    parts.routers = [assets.router(), *pages(window), api.router(console, gateway), api.passing(gateway)]

    def prepare(app: FastAPI) -> None:
        for error, handler in app.exception_handlers.items():
            app.add_exception_handler(error, errors.shown(window, handler))
        app.add_exception_handler(shell.SignInNeeded, shell.to_sign_in)
        app.add_middleware(SessionMiddleware, sessions=sessions)

    parts.prepare = prepare
    return parts
