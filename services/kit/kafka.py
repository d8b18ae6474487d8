"""How to reach Kafka: one properties file, as Java and librdkafka take it, for every client here."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, RequestTimedOutError
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from . import properties
from .telemetry import get_logger

log = get_logger(__name__)

AWAY = (KafkaConnectionError, KafkaTimeoutError, RequestTimedOutError, ConnectionError, TimeoutError)
"""What Kafka's absence looks like: never a reason for a dead letter."""
IDLE_FETCH_MS = 1000
"""How long a broker may wait for the first byte: what comes is sent at once; an idle consumer asks only so often."""
BUSY_FETCH_MS = 20
"""The same of a consumer that gets records. aiokafka has one fetch under way at a broker: one for partitions without
records alone holds up the others, whose records were taken meanwhile."""
_IDLE_S = 1.0
"""After so long without records a consumer is idle."""
PULSE_S = 5.0
"""How often an idle consumer asks whether the cluster is still there."""
PATIENCE_S = 30.0
"""How long a consumer may go without an answer before another one takes its place."""
LONG_S = 60.0
"""For what takes several requests, on a machine under load: joining the group, narrowing down to one record."""
_ANSWER_S = 3.0
_FAREWELL_S = 5.0


def is_away(error: BaseException) -> bool:
    """Whether this error says that the broker is away or moving, not that the request is wrong."""
    return isinstance(error, AWAY) or (isinstance(error, KafkaError) and bool(getattr(error, "retriable", False)))


@dataclass(frozen=True)
class Connection:
    """A client's address, principal and password."""

    properties: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "Connection":
        """Read a properties file. Raises FileNotFoundError or ValueError with what is missing."""
        given = properties.read(path)
        if not given.get("bootstrap.servers"):
            raise ValueError(f"{path} names no bootstrap.servers")
        return cls(given)

    @property
    def bootstrap(self) -> list[str]:
        return self.properties["bootstrap.servers"].split(",")

    @property
    def protocol(self) -> str:
        return self.properties.get("security.protocol", "PLAINTEXT")

    @property
    def principal(self) -> str:
        return self.properties.get("sasl.username", "")

    @property
    def mechanism(self) -> str:
        return self.properties.get("sasl.mechanism") or self.properties.get("sasl.mechanisms") or "PLAIN"

    def _tls(self) -> ssl.SSLContext | None:
        if not self.protocol.endswith("SSL"):
            return None
        return ssl.create_default_context(cafile=self.properties.get("ssl.ca.location") or None)

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments of aiokafka's clients."""
        common = {"bootstrap_servers": self.bootstrap, "security_protocol": self.protocol, "ssl_context": self._tls()}
        if not self.protocol.startswith("SASL"):
            return common
        return common | {
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.principal,
            "sasl_plain_password": self.properties.get("sasl.password", ""),
        }

    def faststream(self) -> BaseSecurity:
        """The security object of FastStream's broker."""
        tls = self._tls()
        if not self.protocol.startswith("SASL"):
            return BaseSecurity(ssl_context=tls, use_ssl=tls is not None)
        kinds = {"SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512, "PLAIN": SASLPlaintext}
        kind = kinds[self.mechanism]
        password = self.properties.get("sasl.password", "")
        return kind(username=self.principal, password=password, ssl_context=tls, use_ssl=tls is not None)


async def partitions_of(consumer: AIOKafkaConsumer, *topics: str) -> list[TopicPartition]:
    """The partitions of topics, for a consumer without a group: empty for a topic that is not there."""
    # partitions_for_topic() knows only topics that were assigned before, and topics() keeps what it learns to itself.
    cluster = await consumer._client.fetch_all_metadata()  # pyright: ignore[reportPrivateUsage]
    return [TopicPartition(topic, p) for topic in topics for p in sorted(cluster.partitions_for_topic(topic) or ())]


class Pulse:
    """Whether the cluster answers a consumer: its `getmany` is as empty while the broker is gone as without news.

    Also how long its fetches may wait: briefly while there are records, else long.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._answered = True
        self._asked_at = self._answered_at = time.monotonic()
        self._felt_at = self._asked_at - _IDLE_S

    @property
    def silent_s(self) -> float:
        """For how long the cluster has not answered; 0 where it answered last."""
        return 0.0 if self._answered else time.monotonic() - self._answered_at

    def endure(self, patience_s: float) -> None:
        """Raises TimeoutError where the cluster was silent for longer: it may well answer another consumer."""
        if self.silent_s > patience_s:
            raise TimeoutError(f"Kafka has not answered for {self.silent_s:.0f} s")

    def felt(self) -> None:
        """Records came: nobody need ask."""
        self._answered = True
        self._felt_at = self._asked_at = self._answered_at = time.monotonic()
        self._wait_at_most(BUSY_FETCH_MS)

    async def beats(self) -> bool:
        """Whether the cluster answered last; asks it at most every `PULSE_S`, with one small request."""
        if time.monotonic() - self._felt_at >= _IDLE_S:
            self._wait_at_most(IDLE_FETCH_MS)
        if time.monotonic() - self._asked_at >= PULSE_S:
            self._asked_at = time.monotonic()
            self._answered = await self._ask()
            if self._answered:
                self._answered_at = time.monotonic()
        return self._answered

    def _wait_at_most(self, milliseconds: int) -> None:
        if fetcher := self._consumer._fetcher:  # pyright: ignore[reportPrivateUsage]
            fetcher._fetch_max_wait_ms = milliseconds  # pyright: ignore[reportPrivateUsage]

    async def _ask(self) -> bool:
        client = self._consumer._client  # pyright: ignore[reportPrivateUsage]
        # Only of the consumer's own topics, and into a table of its own: what the consumer knows stays its affair.
        asked = client._metadata_update(ClusterMetadata(), client._topics)  # pyright: ignore[reportPrivateUsage]
        try:
            return bool(await asyncio.wait_for(asked, _ANSWER_S))
        except (KafkaError, OSError, TimeoutError):
            return False


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncGenerator[None]:
    """Bound what aiokafka would wait for without end. Raises TimeoutError, which says that Kafka is away."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise  # of a bound within: it says better what took long
        raise TimeoutError(f"{what} took longer than {seconds:.0f} s") from None


async def close(
    client: AIOKafkaConsumer | AIOKafkaProducer,
    farewell: Coroutine[Any, Any, None] | None = None,
    within_s: float = _FAREWELL_S,
) -> None:
    """Stop a client in whatever state it is; one that does not finish its farewell in time is hung up on.

    aiokafka's own `stop` may wait without end. It may also cancel its caller: one of its tasks that was waiting to
    try again ends as cancelled, and `stop` awaits it. Here it cannot: whoever consumes lives on. `farewell` stops a
    client that belongs to something else.
    """
    ending = asyncio.create_task(farewell or client.stop())
    try:
        await asyncio.wait([ending], timeout=within_s)
    finally:
        if not ending.done() or ending.cancelled() or ending.exception():
            await _hang_up(client, ending)


async def _hang_up(client: Any, farewell: "asyncio.Task[None]") -> None:
    """A consumer that was only left alone would stay in its group and hold its partitions."""
    error = farewell.exception() if farewell.done() and not farewell.cancelled() else None
    log.warning("a Kafka client did not close cleanly", error=repr(error)[:200])
    connections = client.client if isinstance(client, AIOKafkaProducer) else client._client
    tasks = {farewell} | _tasks(client)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_ANSWER_S)
    await asyncio.wait([asyncio.create_task(connections.close())], timeout=_ANSWER_S)


def _tasks(client: Any) -> "set[asyncio.Task[Any]]":
    """What a client does beside its caller."""
    coordinator, fetcher = getattr(client, "_coordinator", None), getattr(client, "_fetcher", None)
    own = [
        getattr(coordinator, "_coordination_task", None), getattr(coordinator, "_heartbeat_task", None),
        getattr(coordinator, "_commit_refresh_task", None), getattr(fetcher, "_fetch_task", None),
        getattr(getattr(client, "_sender", None), "_sender_task", None), *getattr(fetcher, "_pending_tasks", ()),
    ]  # fmt: skip
    return {task for task in own if task is not None}
