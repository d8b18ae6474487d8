"""What the broker says of its topics: sizes, rates, the lag of each group. Asked at most once a second."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from contracts import EVENTS

from .errors import Unavailable
from .kafka import Connection

_TIMEOUT_S = 10.0
_RATE_OVER_S = 60
REPLAYED = "console.replayed"
"""The console's group: what of the dead letters has been dealt with, as committed offsets."""

Partition = tuple[str, int]


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
    dead_letters: int
    """Dead letters of this topic that nobody has replayed yet."""
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
        self._admin: AdminClient | None = None
        self._lock = asyncio.Lock()
        self._seen: tuple[float, list[TopicState]] = (0.0, [])

    async def states(self) -> list[TopicState]:
        """Every topic, by name. Raises Unavailable while Kafka is away."""
        async with self._lock:
            if time.monotonic() - self._seen[0] > self._keep_s:
                sizes, states = await asyncio.gather(self._sizes(), asyncio.to_thread(self._ask))
                self._seen = (time.monotonic(), [replace(s, bytes=sizes.get(s.topic)) for s in states])
            return self._seen[1]

    def _ask(self) -> list[TopicState]:
        try:
            admin = self._connected()
            names = {name: len(t.partitions) for name, t in admin.list_topics(timeout=_TIMEOUT_S).topics.items()}
            partitions = [(n, p) for n, count in names.items() if not n.startswith("__") for p in range(count)]
            offsets = _offsets(admin, partitions)
            return _pictures(offsets, _committed(admin))
        except KafkaException as error:
            raise Unavailable(f"Kafka does not answer: {error.args[0].str()}") from None

    def _connected(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient({"log_level": 0, "socket.timeout.ms": 10_000, **self._connection.properties})
        return self._admin

    async def _sizes(self) -> dict[str, int]:
        """Bytes on disk by topic, from every broker; librdkafka's client cannot ask for them."""
        client = AIOKafkaClient(**self._connection.aiokafka(), request_timeout_ms=10_000)
        try:
            await client.bootstrap()
            found: dict[str, int] = defaultdict(int)
            for broker in client.cluster.brokers():
                answer: Any = await client.send(broker.nodeId, DescribeLogDirs())
                for _, _, topics in answer.results:
                    for name, parts in topics:
                        found[name] += sum(size for _, size, _, _ in parts)
            return found
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka does not answer: {error}") from None
        finally:
            await client.close()


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


def _offsets(admin: AdminClient, partitions: Sequence[Partition]) -> dict[Partition, Offsets]:
    minute_ago_ms = int((time.time() - _RATE_OVER_S) * 1000)
    specs: tuple[Any, ...] = (OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.for_timestamp(minute_ago_ms))
    asked = [admin.list_offsets({TopicPartition(t, p): spec for t, p in partitions}) for spec in specs]
    starts, ends, then = ({(tp.topic, tp.partition): _offset(f) for tp, f in answers.items()} for answers in asked)
    # No record since then: the broker says -1, and the minute's first offset is the end.
    return {key: Offsets(starts[key], ends[key], then[key] if then[key] >= 0 else ends[key]) for key in partitions}


def _offset(answer: "Future[Any]") -> int:
    return int(answer.result(timeout=_TIMEOUT_S).offset)


def _committed(admin: AdminClient) -> dict[str, dict[Partition, tuple[int, str]]]:
    """Committed offsets (and what was noted with them) of every group."""
    groups = [g.group_id for g in admin.list_consumer_groups().result(timeout=_TIMEOUT_S).valid]
    asked = {g: admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(g)])[g] for g in groups}
    return {
        group: {
            (tp.topic, tp.partition): (tp.offset, tp.metadata or "")
            for tp in answer.result(timeout=_TIMEOUT_S).topic_partitions
            if tp.offset >= 0
        }
        for group, answer in asked.items()
    }


def _pictures(
    offsets: Mapping[Partition, Offsets], committed: Mapping[str, Mapping[Partition, tuple[int, str]]]
) -> list[TopicState]:
    by_topic: dict[str, dict[int, Offsets]] = defaultdict(dict)
    for (topic, partition), found in offsets.items():
        by_topic[topic][partition] = found
    waiting = {
        topic: sum(_waiting(parts[p], committed.get(REPLAYED, {}).get((topic, p))) for p in parts)
        for topic, parts in by_topic.items()
        if topic.startswith("dlq.")
    }
    return [_picture(topic, by_topic[topic], committed, waiting) for topic in sorted(by_topic)]


def _picture(
    topic: str,
    parts: Mapping[int, Offsets],
    committed: Mapping[str, Mapping[Partition, tuple[int, str]]],
    waiting: Mapping[str, int],
) -> TopicState:
    event = contract_of(topic)
    contract = getattr(event, "topic", None)
    groups = (
        GroupLag(group, sum(max(0, parts[p].end - at[topic, p][0]) for p in parts if (topic, p) in at))
        for group, at in committed.items()
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
        bytes=None,
        dead_letters=waiting.get(topic, waiting.get(f"dlq.{topic}", 0)),
        groups=tuple(sorted(groups, key=lambda g: g.group)),
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
