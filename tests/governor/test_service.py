"""The governor as a process of its own, between a real broker and a real database."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import (
    ApprovalGranted,
    ApprovalRequested,
    AuditRecorded,
    AuditSealed,
    DeploymentRequested,
    Event,
    Service,
)
from fairlead import audit
from services.kit import cloudevents
from services.kit.context import Context, system
from services.kit.kafka import Connection
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.testing import eventually, expect_events
from services.kit.tokens import mint
from tests.governor import builders


@pytest.fixture
async def running(home: Path, kafka: Path, service_url: Callable[[Service], str]) -> AsyncIterator[Settings]:
    """The governor, ready; stopped by SIGTERM, which it must obey with exit code 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1] - 5
    settings = Settings(home=home, port=port, kafka_properties=home / "secrets" / "kafka" / "governor.properties")
    environment = os.environ | {
        "FAIRLEAD_HOME": str(home), "FAIRLEAD_PORT": str(port), "FAIRLEAD_SEAL_AFTER_S": "0.2",
        "FAIRLEAD_KAFKA_PROPERTIES": str(settings.kafka_properties),
        "FAIRLEAD_SERVICE_DATABASE": service_url("governor"),
    }  # fmt: skip
    with (home / "logs" / "governor.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.governor", env=environment, stdout=log, stderr=log
        )
        try:
            async with httpx.AsyncClient(base_url=settings.url("governor")) as http:
                await eventually(lambda: _ready(http), within=30)
            yield settings
        finally:
            process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), 20)
    assert code == 0, (home / "logs" / "governor.log").read_text()[-3000:]


async def _ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


def client(settings: Settings, who: str) -> httpx.AsyncClient:
    token = mint(settings.keys / "issuer.key", who, [who], ["*"], "person")
    return httpx.AsyncClient(
        base_url=settings.url("governor"), headers={"Authorization": f"Bearer {token}"}, timeout=10
    )


async def say(settings: Settings, service: Service, *events: Event) -> None:
    own = settings.model_copy(
        update={"kafka_properties": settings.home / "secrets" / "kafka" / f"{service}.properties"}
    )
    async with Producer(own) as producer:
        await producer.send_all([
            (event.topic.name, event.key.encode(), event.to_json(),
             cloudevents.headers(type(event), service, event.key, Context(system(service)), "retail"))
            for event in events
        ])  # fmt: skip


def onlooker(settings: Settings) -> Settings:
    """The operator, who may read every topic."""
    return settings.model_copy(update={"kafka_properties": settings.home / "kafka" / "operator.properties"})


async def dead_letters(settings: Settings, topic: str) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(
        **Connection.read(onlooker(settings).kafka_properties).aiokafka(), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        tops = [TopicPartition(topic, 0)]
        consumer.assign(tops)
        ends = await consumer.end_offsets(tops)
        await consumer.seek_to_beginning(*tops)
        read = []
        async with asyncio.timeout(10):
            while await consumer.position(tops[0]) < ends[tops[0]]:
                found = await consumer.getmany(timeout_ms=200)
                read += [record.value for records in found.values() for record in records]
        return read
    finally:
        await consumer.stop()


def row(number: int) -> AuditRecorded:
    """Of the console, which says none itself: the numbers of a service that other tests run are taken."""
    return AuditRecorded(
        service="console", number=number, action="model.registered", subject="credit", actor="engineer",
        unit="retail", at=builders.NOW, correlation_id="one-story", event_id=None, detail={},
    )  # fmt: skip


async def recorded(http: httpx.AsyncClient, **filters: str) -> list[dict[str, Any]]:
    """Every record of the ledger that these filters let through, however many pages they fill."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await http.get("/v1/audit", params={"limit": "1000", **filters, **cursor})).json()
        items += page["items"]
        if not page["next"]:
            return items
        cursor = {"cursor": page["next"]}


def about(asked: DeploymentRequested) -> Callable[[Any], bool]:
    return lambda event: event.deployment_id == asked.deployment_id


async def test_a_request_becomes_a_signed_grant_and_every_fact_a_sealed_record(running: Settings) -> None:
    own = uuid4().hex[:8]  # the session's topics are shared, and other tests register models too
    names = {"use_case": f"lending-{own}", "model": f"credit-{own}"}
    asked = builders.deployment(endpoint=f"credit-live-{own}", **names)
    async with expect_events(onlooker(running), ApprovalRequested, within=20, where=about(asked)) as seen:
        await say(running, "deployer", asked)  # before what it refers to
        await say(
            running, "catalog", builders.use_case(use_case=names["use_case"]), builders.model(model=names["model"])
        )
        await say(running, "console", row(1), row(2))
    (approval,) = seen.of(ApprovalRequested)
    async with (
        client(running, "compliance") as http,
        expect_events(onlooker(running), ApprovalGranted, where=about(asked)) as said,
        expect_events(onlooker(running), AuditSealed),
    ):
        path = f"/v1/approvals/{approval.approval_id}/decision"
        assert (await http.post(path, json={"decision": "grant", "reason": "sound"})).status_code == 200
    assert said.of(ApprovalGranted)[0].deployment_id == asked.deployment_id

    poison = (AuditRecorded.topic.name, b"catalog", b"not an audit row", [("ce_source", b"/fairlead/catalog")])
    async with Producer(running) as producer:
        await producer.send_all([poison])
    await say(running, "console", row(3))

    async with client(running, "compliance") as http:

        async def complete() -> bool:
            items = [
                *await recorded(http, service="governor", action="approval.granted"),
                *await recorded(http, service="governor", action="audit.sealed"),
                *await recorded(http, service="console"),
            ]
            told = {(item["service"], item["action"]) for item in items}
            numbers = {item["number"] for item in items if item["service"] == "console"}
            return {("governor", "approval.granted"), ("governor", "audit.sealed")} <= told and numbers == {1, 2, 3}

        await eventually(complete, within=20)

        async def sealed_to_the_end() -> bool:
            """All but the audit row of the last seal."""
            verdict = (await http.post("/v1/audit/verify")).json()
            lines = audit.lines(running.home / "data" / "governor" / "checkpoints.jsonl")
            return verdict["ok"] and verdict["records"] - max(line["position"] for line in lines) <= 1

        await eventually(sealed_to_the_end, within=10)
        lines = list(audit.lines(running.home / "data" / "governor" / "checkpoints.jsonl"))
        records = [orjson.loads(line) for line in (await http.get("/v1/audit/export")).text.splitlines()]
    keys = audit.keys_in(running.keys / "public")
    assert audit.verify(records, lines, keys).ok
    del records[1]
    assert not audit.verify(records, lines, keys).ok
    assert b"not an audit row" in await dead_letters(running, "dlq.audit.recorded")
