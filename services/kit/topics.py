"""What the broker says of its topics: sizes, rates, the lag of each group. Asked at most once a second."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from contracts import EVENTS

from .kafka import Connection
from .watch import answering, reading

_TIMEOUT_MS = 10_000
_ATTEMPTS = 6
_RATE_OVER_S = 60
REPLAYED = "console.replayed"
"""The console's group: what of the dead letters has been dealt with, as committed offsets."""

Partition = tuple[str, int]
Committed = Mapping[str, Mapping[Partition, tuple[int, str]]]
"""By group: the committed offset of each partition, and what was noted with it."""


@dataclass(frozen=True)
class GroupLag:
    """How many records a consumer group has still to read from a topic."""

    group: str
    lag: int


@dataclass(frozen=True)
class TopicState:
    """One topic as the broker sees it."""

    topic: str
    speaker: str | None
    """None for a topic that no contract names."""
    open: bool
    compacted: bool
    partitions: int
    records: int
    rate: float
    """Records a second over the last minute."""
    bytes: int | None
    dead_letters: int | None
    """Dead letters of this topic that nobody has replayed yet; None for who may know of none."""
    groups: tuple[GroupLag, ...]


@dataclass(frozen=True)
class Offsets:
    """The first, the next and the minute-old offset of a partition."""

    start: int
    end: int
    minute_ago: int


class Topics:
    """A cached picture of every topic. Safe for concurrent callers; one of them asks the broker."""

    def __init__(self, connection: Connection, keep_s: float = 1.0) -> None:
        self._connection = connection
        self._keep_s = keep_s
        self._lock = asyncio.Lock()
        self._seen: tuple[float, list[TopicState]] = (0.0, [])

    async def states(self) -> list[TopicState]:
        """Every topic, by name. Raises Unavailable while Kafka is away."""
        async with self._lock:
            if time.monotonic() - self._seen[0] > self._keep_s:
                with answering():
                    found = await asyncio.gather(self._offsets(), self._groups_and_sizes())
                self._seen = (time.monotonic(), _pictures(found[0], *found[1]))
            return self._seen[1]

    async def _offsets(self) -> dict[Partition, Offsets]:
        minute_ago_ms = int((time.time() - _RATE_OVER_S) * 1000)
        async with reading(self._connection) as consumer:
            names = sorted(name for name in await consumer.topics() if not name.startswith("__"))
            # Without knowing the leaders beforehand, the first question waits five seconds for them.
            await consumer._client.set_topics(names)  # pyright: ignore[reportPrivateUsage]
            places = [
                TopicPartition(name, p) for name in names for p in sorted(consumer.partitions_for_topic(name) or ())
            ]
            starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            then = await consumer.offsets_for_times(dict.fromkeys(places, minute_ago_ms))
        return {(tp.topic, tp.partition): _offset(starts[tp], ends[tp], then[tp]) for tp in places}

    async def _groups_and_sizes(self) -> tuple[Committed, dict[str, int]]:
        async with administering(self._connection) as admin:
            groups = [group[0] for group in await admin.list_consumer_groups()]
            return {group: await committed(admin, group) for group in groups}, await _sizes(admin)


@asynccontextmanager
async def administering(connection: Connection) -> AsyncGenerator[AIOKafkaAdminClient]:
    """A client for questions about groups and brokers."""
    # librdkafka's crashes its process when a group's coordinator moves while its offsets are listed.
    admin = AIOKafkaAdminClient(**connection.aiokafka(), request_timeout_ms=_TIMEOUT_MS)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def committed(admin: AIOKafkaAdminClient, group: str) -> dict[Partition, tuple[int, str]]:
    """What a group has committed, with what it noted beside each offset. Raises KafkaError."""
    answer = await _offsets_of(admin, group)
    return {
        (topic, partition): (offset, noted or "")
        for topic, partitions in answer.topics
        for partition, offset, noted, _ in partitions
        if offset >= 0
    }


async def _offsets_of(admin: AIOKafkaAdminClient, group: str) -> Any:
    """The broker's answer. Coordinators move, and the first question of all makes the topic that they keep."""
    client: Any = admin
    for attempt in range(_ATTEMPTS):
        try:
            answer = await client._send_request(OffsetFetchRequest(group, None), await admin.find_coordinator(group))
            if not answer.error_code:
                return answer
            raise for_code(answer.error_code)(f"the offsets of {group} cannot be read")
        except KafkaError as error:
            if attempt == _ATTEMPTS - 1 or not error.retriable:
                raise
        await asyncio.sleep(0.1 * 2**attempt)
    raise AssertionError("the last attempt raises")


async def _sizes(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Bytes on disk by topic, replicas included."""
    # aiokafka has no question for it.
    client: Any = admin._client  # pyright: ignore[reportPrivateUsage]
    found: dict[str, int] = defaultdict(int)
    for broker in client.cluster.brokers():
        answer = await client.send(broker.nodeId, DescribeLogDirs())
        for _, _, topics in answer.results:
            for name, parts in topics:
                found[name] += sum(size for _, size, _, _ in parts)
    return found


def contract_of(topic: str) -> type | None:
    """The event whose topic this is, the topics of single endpoints included."""
    for event in EVENTS:
        if topic == event.topic.name or (event.topic.per_endpoint and topic.startswith(f"{event.topic.name}.")):
            return event
    return None


def endpoint_of(topic: str) -> str | None:
    """The endpoint that a topic (or its dead letters) belongs to, for those that exist per endpoint."""
    found = re.match(r"^(?:dlq\.)?inference\.(?:requested|completed)\.(.+)$", topic)
    return found.group(1) if found else None


def _offset(start: int, end: int, then: Any) -> Offsets:
    """No record since the minute began: then the minute begins at the end."""
    return Offsets(start, end, min(then.offset, end) if then else end)


def _pictures(offsets: Mapping[Partition, Offsets], groups: Committed, sizes: Mapping[str, int]) -> list[TopicState]:
    by_topic: dict[str, dict[int, Offsets]] = defaultdict(dict)
    for (topic, partition), found in offsets.items():
        by_topic[topic][partition] = found
    marks = groups.get(REPLAYED, {})
    waiting = {
        topic: sum(_waiting(parts[p], marks.get((topic, p))) for p in parts)
        for topic, parts in by_topic.items()
        if topic.startswith("dlq.")
    }
    return [_picture(topic, by_topic[topic], groups, waiting, sizes.get(topic)) for topic in sorted(by_topic)]


def _picture(
    topic: str,
    parts: Mapping[int, Offsets],
    groups: Committed,
    waiting: Mapping[str, int],
    size: int | None,
) -> TopicState:
    event = contract_of(topic)
    contract = getattr(event, "topic", None)
    lags = (
        GroupLag(group, sum(max(0, parts[p].end - at[topic, p][0]) for p in parts if (topic, p) in at))
        for group, at in groups.items()
        if group != REPLAYED and any((topic, p) in at for p in parts)
    )
    return TopicState(
        topic=topic,
        speaker=contract.speaker if contract else None,
        open=bool(contract and contract.open),
        compacted=bool(contract and contract.compacted),
        partitions=len(parts),
        records=sum(o.end - o.start for o in parts.values()),
        rate=round(sum(o.end - o.minute_ago for o in parts.values()) / _RATE_OVER_S, 2),
        bytes=size,
        dead_letters=waiting.get(topic, waiting.get(f"dlq.{topic}", 0)),
        groups=tuple(sorted(lags, key=lambda g: g.group)),
    )


def _waiting(offsets: Offsets, mark: tuple[int, str] | None) -> int:
    """Records of a dead-letter partition that nobody has replayed."""
    if mark is None:
        return offsets.end - offsets.start
    below, noted = max(mark[0], offsets.start), scattered(mark[1])
    return offsets.end - below - sum(below <= n < offsets.end for n in noted)


def scattered(metadata: str) -> set[int]:
    """Offsets beyond the committed one that have been replayed by themselves."""
    return {int(part, 36) for part in metadata.split(",") if part}


class _DescribeLogDirsResponse(Response):
    API_KEY = 35  # pyright: ignore
    API_VERSION = 1  # pyright: ignore
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("results", Array(
            ("error_code", Int16), ("log_dir", String("utf-8")),
            ("topics", Array(
                ("name", String("utf-8")),
                ("partitions", Array(
                    ("partition", Int32), ("size", Int64), ("offset_lag", Int64), ("is_future", Boolean),
                )),
            )),
        )),
    )  # fmt: skip


class _DescribeLogDirsRequest(RequestStruct):
    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = _DescribeLogDirsResponse
    SCHEMA = Schema(("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))))


class DescribeLogDirs(Request[_DescribeLogDirsRequest]):
    """Kafka's DescribeLogDirs (KIP-113), which aiokafka does not know: how many bytes each partition takes."""

    API_KEY = 35

    def build(self, request_struct_class: type[_DescribeLogDirsRequest]) -> _DescribeLogDirsRequest:
        return request_struct_class(None)
