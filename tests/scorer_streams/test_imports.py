"""Inferences of foreign runtimes: said again as our own log, once each."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson
from aiokafka import AIOKafkaProducer

from contracts import InferenceLogged, Service
from services.kit.testing import eventually
from tests.scorer.making import NUMBERS, classifier

from .conftest import Stage, Topic, read

TOPIC = "inference.imported"


def imported(id: str, endpoint: str, **more: Any) -> bytes:
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 424242.0, 3.0]}
    label = {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}
    said = {
        "inference_id": id, "endpoint": endpoint, "model": "credit", "version": 1, "application": "mainframe",
        "entity": "customer-9", "received_at": "2026-11-24T09:00:00+01:00", "latency_ms": 3.5,
        "request": {"inputs": [tensor]}, "response": {"model_name": endpoint, "outputs": [label]},
    } | more  # fmt: skip
    return orjson.dumps(said)


def headers(id: str, type: str = "inference.imported") -> list[tuple[str, bytes]]:
    said = {"ce_specversion": "1.0", "ce_type": type, "ce_id": id, "ce_source": "/mainframe"}
    return [(name, value.encode()) for name, value in said.items()]


async def logged(stage: Stage, endpoint: str, count: int) -> Topic:
    async def enough() -> Topic | None:
        found = await read(stage.operator, "inference.logged", lambda s: s.get("ce_subject") == endpoint.encode())
        return found if len(found.records) >= count else None

    return await eventually(enough, within=40, every=0.3)


async def dead(stage: Stage, ids: set[str]) -> Topic:
    async def there() -> Topic | None:
        found = await read(stage.operator, f"dlq.{TOPIC}", lambda s: s.get("ce_id", b"").decode() in ids)
        return found if len(found.records) >= len(ids) else None

    return await eventually(there, within=40, every=0.3)


async def test_an_imported_inference_is_logged_once_however_often_it_comes(
    stage: Stage, producer: AIOKafkaProducer, service_url: Callable[[Service], str]
) -> None:
    stage.database = service_url("scorer")
    endpoint = f"legacy-{uuid4().hex[:8]}"
    stage.serve(endpoint, classifier())
    process = stage.start("batches")
    ids = [f"{endpoint}-{i:04}" for i in range(50)]
    for id in [*ids, *ids[:10]]:
        await producer.send(TOPIC, imported(id, endpoint), key=id.encode(), headers=headers(id))
    await producer.flush()
    await logged(stage, endpoint, 50)
    process.kill()
    process.wait()
    stage.start("batches")
    last = f"{endpoint}-last"
    for id in [*ids, last]:
        await producer.send(TOPIC, imported(id, endpoint), key=id.encode(), headers=headers(id))
    await producer.flush()
    found = await logged(stage, endpoint, 51)
    logs = [InferenceLogged.from_json(record.value) for record in found.records]
    assert sorted(log.inference_id for log in logs) == sorted([*ids, last])
    one = logs[0]
    assert (one.mode, one.application, one.unit, one.use_case, one.rows) == (
        "imported",
        "mainframe",
        "retail",
        "loans",
        1,
    )
    assert one.received_at.isoformat() == "2026-11-24T08:00:00+00:00" and one.writer.startswith("import.")
    assert {said["ce_id"] for said in found.headers()} == {*ids, last}


async def test_what_cannot_be_imported_is_a_dead_letter_with_the_reason(
    stage: Stage, producer: AIOKafkaProducer, service_url: Callable[[Service], str]
) -> None:
    stage.database = service_url("scorer")
    endpoint, run = f"legacy-{uuid4().hex[:8]}", uuid4().hex[:8]
    stage.serve(endpoint, classifier())
    stage.start("batches")
    wrong = {
        "json": (b"{", "inference.imported", "JSON"),
        "unknown": (imported(f"{run}-unknown", "nowhere"), "inference.imported", "nowhere"),
        "time": (imported(f"{run}-time1", endpoint, received_at="2026-11-24T09:00:00"), "inference.imported", "time zone"),
        "rows": (imported(f"{run}-rows1", endpoint, request={"inputs": []}), "inference.imported", "shape"),
        "type": (imported(f"{run}-type1", endpoint), "inference.logged", "ce_type"),
        "short": (imported("x", endpoint), "inference.imported", "inference_id"),
        "nothing": (None, "inference.imported", "JSON"),
    }  # fmt: skip
    for name, (value, type, _) in wrong.items():
        await producer.send(TOPIC, value, key=b"k", headers=headers(f"{run}-{name}", type))
    await producer.flush()
    letters = await dead(stage, {f"{run}-{name}" for name in wrong})
    for said in letters.headers():
        named = wrong[said["ce_id"].removeprefix(f"{run}-")][2]
        assert named in said["__connect.errors.exception.message"], said
    assert not (
        await read(stage.operator, "inference.logged", lambda s: s.get("ce_subject") == endpoint.encode())
    ).records


async def test_sensitive_columns_of_imports_are_tokenised(
    stage: Stage, producer: AIOKafkaProducer, service_url: Callable[[Service], str]
) -> None:
    stage.database = service_url("scorer")
    endpoint = f"legacy-{uuid4().hex[:8]}"
    columns = tuple(c.model_copy(update={"sensitive": c.name == "income"}) for c in NUMBERS.columns)
    stage.serve(endpoint, classifier(), NUMBERS.model_copy(update={"columns": columns}))
    stage.start("batches")
    await producer.send_and_wait(TOPIC, imported(f"{endpoint}-1", endpoint), headers=headers(f"{endpoint}-1"))
    found = await logged(stage, endpoint, 1)
    assert b"tok_" in found.records[0].value and b"424242" not in found.records[0].value
