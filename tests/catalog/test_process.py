"""The catalog as a process of its own, on real Kafka and PostgreSQL: what it registers is said, SIGTERM ends it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from contracts import ModelRegistered, Service, UseCaseRegistered
from deploy.embedded.standalone import free_home
from services.kit.settings import Settings
from services.kit.testing import eventually, expect_events

from . import models

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def url(
    kafka: Path, home: Path, tmp_path: Path, service_url: Callable[[Service], str]
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    settings = Settings(home=home, port=free_home(tmp_path / "free").port)
    environment = {
        "FAIRLEAD_HOME": str(home), "FAIRLEAD_PORT": str(settings.port),
        "FAIRLEAD_KAFKA_PROPERTIES": str(home / "secrets" / "kafka" / "catalog.properties"),
        "FAIRLEAD_SERVICE_DATABASE": service_url("catalog"),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.catalog", cwd=ROOT, env={**os.environ, **environment}
    )
    yield settings.url("catalog"), process
    if process.returncode is None:
        process.terminate()
    assert await asyncio.wait_for(process.wait(), 25) == 0


async def test_it_becomes_ready_says_what_it_registers_and_ends(
    url: tuple[str, asyncio.subprocess.Process], home: Path, kafka: Path
) -> None:
    base, process = url
    token = (home / "tokens" / "data-scientist.jwt").read_text().strip()
    async with httpx.AsyncClient(base_url=base, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:

        async def ready() -> bool:
            assert process.returncode is None, "the catalog ended"
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ready, within=60)
        listener = Settings(home=home, kafka_properties=kafka)
        async with expect_events(listener, UseCaseRegistered, ModelRegistered, within=20) as seen:
            body = {"use_case": "limits", "title": "Limits", "owner": "Risk", "risk_tier": 2}
            assert (await client.post("/v1/use-cases", json=body)).status_code == 201
            model = models.onnx_bytes(models.onnx_model())
            answer = await client.post("/v1/models", files={"package": ("m.onnx", model)}, data={"name": "credit"})
            assert answer.status_code == 201, answer.text
        assert [event.digest for event in seen.of(ModelRegistered)] == [answer.json()["digest"]]
        assert "/v1/models" in (await client.get("/openapi.json")).json()["paths"]
        assert (await client.get("/asyncapi.json")).status_code == 200
        assert b"fairlead" in (await client.get("/metrics")).content
