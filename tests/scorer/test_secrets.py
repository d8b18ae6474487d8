"""Values of columns that a schema declares sensitive: in no file, topic, dead letter, Parquet, table or log."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import EVENTS, Service
from services.kit.kafka import Connection, partitions_of
from services.kit.objects import Objects
from services.kit.producer import Producer
from services.kit.service import close
from services.kit.settings import Settings
from services.kit.testing import eventually
from services.kit.testing import running as beside
from services.recorder import app as recorder
from services.recorder.settings import RecorderSettings

from .hosting import Host
from .living import bearer, rows
from .making import NUMBERS, classifier, package

SECRET = 70823.46875
"""A number that FP32 holds exactly, and nobody else here writes."""
PLANTED = (b"70823.46875", np.float32(SECRET).tobytes(), np.float64(SECRET).tobytes())
SENSITIVE = NUMBERS.model_copy(
    update={"columns": tuple(c.model_copy(update={"sensitive": c.name == "income"}) for c in NUMBERS.columns)}
)


def holds(data: bytes) -> bool:
    return any(secret in data for secret in PLANTED)


NAMES = [event.topic.name for event in EVENTS if not event.topic.per_endpoint]
TOPICS = [*NAMES, *(f"dlq.{name}" for name in NAMES)]


async def ends_of_topics(properties: Path) -> dict[TopicPartition, int]:
    """Where they end now: what other tests wrote before is theirs, unreadable records among it."""
    async with AIOKafkaConsumer(**Connection.read(properties).aiokafka()) as consumer:
        there = [name for name in TOPICS if name in await consumer.topics()]
        return await consumer.end_offsets(await partitions_of(consumer, *there))


async def topics_that_hold_it(properties: Path, since: dict[TopicPartition, int]) -> set[str]:
    """Of all topics that there are, dead letters too, by reading them; once the bad import is among these."""
    consumer = AIOKafkaConsumer(**Connection.read(properties).aiokafka(), isolation_level="read_committed")
    await consumer.start()
    try:
        there = [name for name in TOPICS if name in await consumer.topics()]
        assert "inference.logged" in there and "dlq.inference.imported" in there
        tops = await partitions_of(consumer, *there)
        consumer.assign(tops)
        for place in tops:
            consumer.seek(place, since.get(place, 0))
        ends, found = await consumer.end_offsets(tops), set[str]()
        while any([await consumer.position(tp) < ends[tp] for tp in tops]):
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found |= {
                    tp.topic for r in records if holds((r.key or b"") + (r.value or b"") + repr(r.headers).encode())
                }
        return found
    finally:
        await consumer.stop()


async def tables_that_hold_it(url: str, schema: str) -> list[str]:
    connection = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"))
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
        look = "SELECT count(*) FROM {}.\"{}\" AS t WHERE t::text LIKE '%70823.46875%'"
        return [t["tablename"] for t in tables if await connection.fetchval(look.format(schema, t["tablename"]))]
    finally:
        await connection.close()


async def ask_in_every_way(host: Host, endpoint: str) -> list[str]:
    """Good and bad requests, small and large, by each protocol; answers the ids that were given."""
    bad: Any = [1, SECRET, "x"]
    csv = f"age,income,debt\n1,{SECRET},3\n"
    async with httpx.AsyncClient(base_url=host.url, headers=bearer(host.house.token()), timeout=30) as client:
        infer, invoke = f"/v2/models/{endpoint}/infer", f"/invocations/{endpoint}"
        records = {"dataframe_records": [{"age": 1, "income": SECRET, "debt": 3}]}
        answers = [
            await client.post(infer, json=rows([1, SECRET, 3])),
            await client.post(infer, json=rows(*[[1, SECRET, 3]] * 40_000)),
            await client.post(invoke, json=records),
            await client.post(invoke, content=csv, headers={"content-type": "text/csv"}),
        ]
        assert [answer.status_code for answer in answers] == [200] * 4
        refused = [
            await client.post(infer, json=rows(bad)),
            await client.post(invoke, content=csv.replace("3\n", "x\n"), headers={"content-type": "text/csv"}),
            await client.post(infer, content=orjson.dumps(rows([1, SECRET, 3]))[:-1]),
        ]
        assert all(400 <= answer.status_code < 500 and not holds(answer.content) for answer in refused)

        async def taken() -> str | None:
            answer = await client.post("/v1/batches", data={"endpoint": endpoint}, files={"file": ("r.csv", csv)})
            assert answer.status_code == 202, answer.text
            return answer.json()["id"]

        job = await eventually(taken, within=30)

        async def done() -> bool:
            return (await client.get(f"/v1/batches/{job}")).json()["state"] == "done"

        await eventually(done, within=60)
        foreign = str(uuid4())
        assert await by_kserve(client, endpoint, foreign) == ["waiting", "joined"]
    return [*(answer.headers["fairlead-inference-id"] for answer in answers), foreign]


async def by_kserve(client: httpx.AsyncClient, endpoint: str, id: str) -> list[str]:
    """What KServe's logger would send of an inference, the second half wrong at first."""
    halves = {"request": {"instances": [[1, SECRET, 3]]}, "response": {"predictions": [1]}}
    states: list[str] = []
    for side, body in halves.items():
        type = f"org.kubeflow.serving.inference.{side}"
        headers = {"ce-specversion": "1.0", "ce-id": id, "ce-type": type, "ce-source": "/kserve"}
        url = f"/v1/inferences/kserve/{endpoint}"
        refused = await client.post(url, json={"instances": [[SECRET]], "outputs": [SECRET]}, headers=headers)
        assert 400 <= refused.status_code < 500 and not holds(refused.content), refused.text
        states.append((await client.post(url, json=body, headers=headers)).json()["state"])
    return states


async def import_badly(settings: Settings, endpoint: str) -> None:
    """An inference of a foreign runtime that nobody can take: its record becomes a dead letter."""
    said = {"inference_id": "foreign-1", "endpoint": endpoint, "request": rows([1, SECRET, 3])}
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"inference.imported"), ("ce_id", b"1"), ("ce_source", b"/x")]
    async with Producer(settings) as producer:
        await producer.send_all([("inference.imported", b"foreign-1", orjson.dumps(said), headers)])


async def test_planted_values_are_in_no_file_topic_dead_letter_parquet_table_or_log(
    host: Host,
    clients: dict[str, Path],
    home: Path,
    service_url: Callable[[Service], str],
    endpoint: str,
    database: str,
) -> None:
    since = await ends_of_topics(clients["operator"])
    digest = await Objects(host.house.settings).put(package(classifier()))
    await host.say(host.house.change(endpoint, host.house.variant(endpoint, digest, schema=SENSITIVE)))
    await host.serves(endpoint)
    given = RecorderSettings(
        home=home, kafka_properties=home / "secrets" / "kafka" / "recorder.properties", flush_s=0.2,
        service_database=service_url("recorder"), objects=host.house.settings.objects_url,
    )  # fmt: skip
    parts = recorder.build(given)
    try:
        async with beside(*(job() for job in parts.jobs)):
            ids = await ask_in_every_way(host, endpoint)
            outsider = Settings(home=home, kafka_properties=home / "kafka" / "application.properties")
            await import_badly(outsider, endpoint)
            folder = given.inferences / f"endpoint={endpoint}"

            def recorded() -> set[str]:
                tables = [pq.read_table(pa.BufferReader(path.read_bytes())) for path in folder.rglob("*.parquet")]
                assert not any(holds(repr(table.to_pydict()).encode()) for table in tables)
                return {id for table in tables for id in table["inference_id"].to_pylist()}

            await eventually(lambda: set(ids) <= recorded(), within=60)
            assert len(recorded()) >= len(ids) + 1, "the batch's chunk too"
    finally:
        await close(parts)
    open_by_design = {"inference.imported"}  # what its producer wrote, behind access rights
    assert await topics_that_hold_it(clients["operator"], since) == open_by_design
    assert await tables_that_hold_it(database, "scorer") == await tables_that_hold_it(database, "recorder") == []
    host.stop()
    files = [path for path in host.house.home.rglob("*") if path.is_file()]
    assert any("objects" in path.parts for path in files) and any(path.name == "host.log" for path in files)
    assert [path for path in files if holds(path.read_bytes())] == []
