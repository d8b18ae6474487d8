"""What applications and producers do: score by REST, by stream and by batch, and report what followed."""

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from examples.census import rows as census

from .cast import Cast

_ANSWERED_S = 60
"""A producer waits this long for the answers to what it wrote."""


@dataclass
class Tally:
    """What was asked and what was answered."""

    requests: int = 0
    rows: int = 0
    right: int = 0
    failed: list[str] = field(default_factory=list[str])
    by_version: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0
    last_id: str = ""
    repeated: int = 0
    """Answers beyond the first to the same event."""

    @property
    def accuracy(self) -> float:
        return self.right / self.rows if self.rows else 0.0

    def count(self, answer: dict[str, Any], labels: tuple[int, ...]) -> None:
        predictions = answer["outputs"][0]["data"]
        self.requests += 1
        self.rows += len(labels)
        self.right += sum(int(p) == y for p, y in zip(predictions, labels, strict=True))
        self.by_version[answer["model_version"]] = self.by_version.get(answer["model_version"], 0) + 1
        self.last_id = answer["parameters"]["inference_id"]


class Application:
    """An application that scores by REST and, once it knows them, reports the outcomes."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self._headers = {"Authorization": f"Bearer {cast.token('application')}", "Content-Type": "application/json"}
        self._tls = httpx.create_ssl_context()

    def _connect(self) -> httpx.AsyncClient:
        """A client with a connection of its own: where many share one, looking through its connections costs most."""
        return httpx.AsyncClient(
            base_url=self._cast.places["scorer"], headers=self._headers, timeout=15, verify=self._tls
        )

    async def score(
        self, endpoint: str, table: pa.Table, rows: int = 1, *, at_once: int = 8, outcomes: bool = False
    ) -> Tally:
        """Score a table, `rows` a request, `at_once` requests in flight."""
        tally, requests, started = Tally(), census.requests(table, rows), time.perf_counter()
        await asyncio.gather(*(self._worker(endpoint, requests, tally, outcomes) for _ in range(at_once)))
        tally.seconds = time.perf_counter() - started
        return tally

    async def keep_scoring(self, endpoint: str, table: pa.Table, tally: Tally, stop: asyncio.Event) -> None:
        """A steady trickle of requests, until told to stop: what goes on while versions change."""
        async with self._connect() as http:
            for request in itertools.cycle(list(census.requests(table, 20))):
                if stop.is_set():
                    return
                await self._one(http, endpoint, request, tally, outcomes=True)
                await asyncio.sleep(0.05)

    async def _worker(self, endpoint: str, requests: Iterator[census.Request], tally: Tally, outcomes: bool) -> None:
        async with self._connect() as http:
            for request in requests:
                await self._one(http, endpoint, request, tally, outcomes)

    async def _one(
        self, http: httpx.AsyncClient, endpoint: str, request: census.Request, tally: Tally, outcomes: bool
    ) -> None:
        try:
            answer = await http.post(f"/v2/models/{endpoint}/infer", content=orjson.dumps(request.body))
        except httpx.TransportError as error:
            tally.failed.append(type(error).__name__)
            return
        if answer.status_code != 200:
            tally.failed.append(answer.text[:200])
            return
        body = orjson.loads(answer.content)
        tally.count(body, request.labels)
        if outcomes:
            await self._report(body["parameters"]["inference_id"], request.labels)

    async def _report(self, inference_id: str, labels: tuple[int, ...]) -> None:
        known = [{"inference_id": inference_id, "row": row, "label": label} for row, label in enumerate(labels)]
        await self._cast["application"].outcomes(known)


async def stream(cast: Cast, endpoint: str, table: pa.Table) -> Tally:
    """Write each row as an event, and read the answers from the other topic, as a producer would."""
    connection = _connection(cast)
    consumer = AIOKafkaConsumer(**connection, isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        tally, started = Tally(), time.perf_counter()
        consumer.assign([TopicPartition(f"inference.completed.{endpoint}", p) for p in range(2)])
        await consumer.seek_to_beginning()
        waiting = {str(id): label for id, label in await produce(cast, endpoint, table)}
        while waiting and time.perf_counter() - started < _ANSWERED_S:
            await _read(consumer, tally, waiting)
        tally.seconds = time.perf_counter() - started
        while await _read(consumer, tally, waiting):  # what would be said a second time
            pass
        return tally
    finally:
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, tally: Tally, waiting: dict[str, int]) -> bool:
    """Count the answers that are there, or come within a second; whether there was one."""
    found = await consumer.getmany(timeout_ms=1000)
    for record in itertools.chain.from_iterable(found.values()):
        _take(tally, record, waiting)
    return bool(found)


def _take(tally: Tally, record: Any, waiting: dict[str, int]) -> None:
    label = waiting.pop(record.key.decode(), None)
    if label is None:
        tally.repeated += 1
        return
    headers = {name: value.decode() for name, value in record.headers}
    body = orjson.loads(record.value)
    if headers.get("ce_type") != "inference.completed":
        tally.failed.append(str(body.get("error")))
        return
    tally.count(body, (label,))


async def produce(cast: Cast, endpoint: str, table: pa.Table, *, poison: Iterable[bytes] = ()) -> list[tuple[int, int]]:
    """Write each row as an event; answers ids and labels. `poison` are values that are no requests."""
    topic = f"inference.requested.{endpoint}"
    async with AIOKafkaProducer(**_connection(cast), enable_idempotence=True, linger_ms=10) as producer:
        sent = [await producer.send(topic, value, b"poison", headers=_headers()) for value in poison]
        known: list[tuple[int, int]] = []
        for request in census.requests(table):
            key = str(request.ids[0]).encode()
            sent.append(await producer.send(topic, orjson.dumps(request.body), key, headers=_headers()))
            known.append((request.ids[0], request.labels[0]))
        await asyncio.gather(*sent)
        return known


def _headers() -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"), ("ce_id", str(uuid4()).encode()), ("ce_source", b"/demo/producer"),
        ("ce_type", b"inference.requested"), ("content-type", b"application/json"),
    ]  # fmt: skip


def _connection(cast: Cast) -> dict[str, Any]:
    lines = (cast.home / "kafka" / "application.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines if "=" in line)
    return {
        "bootstrap_servers": properties["bootstrap.servers"], "security_protocol": properties["security.protocol"],
        "sasl_mechanism": properties["sasl.mechanism"], "sasl_plain_username": properties["sasl.username"],
        "sasl_plain_password": properties["sasl.password"],
    }  # fmt: skip
