"""The retrainer as a process on real Kafka and PostgreSQL: kill -9 in the middle of a job, and it ends once."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI

from contracts import Event, RetrainingCompleted, Service
from deploy.embedded.standalone import free_home
from services.kit import cloudevents
from services.kit.context import Context, system
from services.kit.kafka import Connection
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.kit.testing import eventually, expect_events

from . import making
from .serving import serving

ROOT = Path(__file__).parents[2]
SLOW = making.RECIPE.replace("def train(rows", "import time\n\n\ndef train(rows").replace(
    "    table = pq", "    time.sleep(3)\n    table = pq", 1
)


async def test_a_job_survives_kill_9_and_ends_once(
    kafka: Path, home: Path, tmp_path: Path, service_url: Callable[[Service], str]
) -> None:
    settings = Settings(home=home, port=free_home(tmp_path / "free").port)
    objects = Objects(settings)
    recorder, rows = FastAPI(), await objects.put(making.snapshot())
    asked_for: list[int] = []

    @recorder.post("/v1/snapshots")
    async def snapshots() -> dict[str, str | int]:
        asked_for.append(1)
        return {"digest": rows, "rows": 800}

    model = making.registered(await objects.put(making.package(recipe=SLOW)))
    request = making.requested()
    listener = Settings(home=home, kafka_properties=kafka)
    async with serving(recorder, settings.listen_port("recorder")):
        process = await _start(settings, service_url)
        try:
            async with expect_events(listener, RetrainingCompleted, within=90) as seen:
                # The request comes first: it waits for the model that it speaks of.
                await _say(home, "governor", request)
                await _say(home, "catalog", model)
                await eventually(lambda: asked_for, within=60)
                process.send_signal(signal.SIGKILL)
                await process.wait()
                process = await _start(settings, service_url)
            (completed,) = seen.of(RetrainingCompleted)
            assert completed.retraining_id == request.retraining_id
            assert completed.outcome == "candidate_won", completed.reason
            assert len(asked_for) == 2
            job = await _job(settings, request.retraining_id)
            assert (job["state"], job["attempt"]) == ("candidate_won", 2)
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 25) == 0


async def _start(settings: Settings, service_url: Callable[[Service], str]) -> asyncio.subprocess.Process:
    environment = {
        "FAIRLEAD_HOME": str(settings.home), "FAIRLEAD_PORT": str(settings.port),
        "FAIRLEAD_KAFKA_PROPERTIES": str(settings.home / "secrets" / "kafka" / "retrainer.properties"),
        "FAIRLEAD_SERVICE_DATABASE": service_url("retrainer"),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.retrainer", cwd=ROOT, env={**os.environ, **environment}
    )

    async def ready() -> bool:
        assert process.returncode is None, "the retrainer ended"
        async with httpx.AsyncClient(base_url=settings.url("retrainer")) as client:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

    await eventually(ready, within=60, every=0.2)
    return process


async def _job(settings: Settings, id: object) -> dict[str, object]:
    token = (settings.home / "tokens" / "engineer.jwt").read_text().strip()
    async with httpx.AsyncClient(base_url=settings.url("retrainer")) as client:
        answer = await client.get(f"/v1/retrainings/{id}", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _say(home: Path, service: Service, event: Event) -> None:
    """Write an event as the service that speaks it."""
    connection = Connection.read(home / "secrets" / "kafka" / f"{service}.properties")
    context = Context(system(service, "retail"), **making.STORY)
    headers = cloudevents.headers(type(event), service, event.key, context, "retail")
    producer = AIOKafkaProducer(**connection.aiokafka())
    await producer.start()
    try:
        await producer.send_and_wait(event.topic.name, event.to_json(), key=event.key.encode(), headers=headers)
    finally:
        await producer.stop()
