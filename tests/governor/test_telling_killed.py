"""A governor that is killed while it tells people loses nothing: a process of its own, a real broker and database."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from starlette.responses import Response

from contracts import Service
from services.kit.settings import Settings
from services.kit.testing import eventually
from tests.governor.receiving import SECRET, WEBHOOK, raised
from tests.governor.test_service import client, say
from tests.kit.servers import server


class Governor:
    """One governor, started and killed."""

    def __init__(self, home: Path, url: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1] - 5
        self.settings = Settings(
            home=home, port=port, kafka_properties=home / "secrets" / "kafka" / "governor.properties"
        )
        self._environment = os.environ | {
            "FAIRLEAD_HOME": str(home), "FAIRLEAD_PORT": str(port), "FAIRLEAD_SERVICE_DATABASE": url,
            "FAIRLEAD_KAFKA_PROPERTIES": str(self.settings.kafka_properties),
        }  # fmt: skip

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Until the end of the block, where it gets no time to tidy up."""
        with (self.settings.home / "logs" / "governor.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.governor", env=self._environment, stdout=log, stderr=log
            )
            try:
                async with httpx.AsyncClient(base_url=self.settings.url("governor")) as http:
                    await eventually(lambda: _ready(http), within=30)
                yield
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()


async def _ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def governor(home: Path, kafka: Path, service_url: Callable[[Service], str]) -> Governor:
    return Governor(home, service_url("governor"))


async def test_what_was_on_its_way_when_the_governor_was_killed_arrives_with_the_same_id(governor: Governor) -> None:
    home, subject = governor.settings.home, f"credit-{uuid4().hex[:8]}"
    held = asyncio.Event()

    async def hold(_: Any) -> Response:
        await held.wait()
        return Response(status_code=204)

    async with server() as receiver:
        receiver.answer = hold
        entry = {"name": "ops", "kind": "https", "url": receiver.url, "signing": SECRET}
        (home / "connections.yaml").write_text(yaml.safe_dump({"connections": [entry]}))

        def about_it() -> list[Any]:
            return [body for body in receiver.asked if body["subject"] == subject]

        async with governor.alive(), client(governor.settings, "engineer") as http:
            body = {"steps": [{"channels": [WEBHOOK]}], "match": {"kinds": ["slow"]}, "group_s": 0}
            assert (await http.put("/v1/alert-routes/on-call", json=body)).status_code == 201
            await say(governor.settings, "monitor", raised(subject=subject))
            await eventually(about_it, within=20)
        receiver.answer = lambda _: Response(status_code=204)
        async with governor.alive(), client(governor.settings, "engineer") as http:

            async def sent() -> bool:
                found = (await http.get("/v1/alert-messages?state=sent")).json()["items"]
                return any(message["subject"] == subject for message in found)

            await eventually(sent, within=40)
        held.set()
    assert len(about_it()) == 2
    assert about_it()[0] == about_it()[1]
