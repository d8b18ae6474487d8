"""What the console can do itself: who is where, what topics hold, dead letters, events as they happen."""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import Request

from contracts import AuditRecorded
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.deadletters import topic_of
from services.kit.errors import Busy, Forbidden, Invalid, NotFound, Refusal, Unavailable
from services.kit.kafka import Connection
from services.kit.letters import DeadLetters, Letter
from services.kit.topics import Topics, TopicState, contract_of, endpoint_of
from services.kit.watch import Follower, Seen, latest

from .gateway import Gateway

_VALUE_LIMIT = 4000


@dataclass(frozen=True)
class Told:
    """One record for a stream of events: its document, and where the stream is behind it."""

    document: dict[str, Any] | None
    position: str


class Console:
    """The window on topics and services. Nothing here is kept: Kafka and the services know it."""

    def __init__(
        self, connection: Connection, gateway: Gateway, streams: int, stopping: asyncio.Event | None = None
    ) -> None:
        self._connection = connection
        self._gateway = gateway
        self._topics = Topics(connection)
        self._letters = DeadLetters(connection)
        self._free_streams = streams
        self._stopping = stopping or asyncio.Event()
        self._counted: dict[frozenset[str], tuple[object, Mapping[str, int]]] = {}
        """By business units: what the topics of dead letters held, and how many letters of it they see."""

    async def topics(self, caller: Caller, request: Request) -> list[TopicState]:
        """The platform's topics: those of an endpoint only to who sees the endpoint.

        Of the dead letters so many as the caller may see; None where their roles open none.
        """
        allow(caller, "topic.read")
        states = [state for state in await self._topics.states() if _is_ours(state.topic)]
        if not caller.sees("*") and any(endpoint_of(state.topic) for state in states):
            seen = {each["endpoint"] for each in await self._gateway.all(request, "deployer", "/v1/endpoints")}
            states = [_trimmed(s, seen) for s in states if endpoint_of(s.topic) in {None, *seen}]
        letters = await self._letters_of(caller, states)
        return [replace(s, dead_letters=letters.get(_dlq(s.topic))) for s in states]

    async def _letters_of(self, caller: Caller, states: Sequence[TopicState]) -> dict[str, int]:
        """How many letters wait that the caller sees, by topic of dead letters; none for those not open to them.

        Where units decide, the letters are read, and again where something changed.
        """
        opened = [s for s in states if s.topic.startswith("dlq.") and _opens(caller, s.topic)]
        picture = {s.topic: (s.records, s.dead_letters) for s in opened if s.dead_letters}
        if caller.sees("*"):
            return {s.topic: s.dead_letters or 0 for s in opened}
        before, counts = self._counted.get(caller.units, ({}, {}))
        if before != picture:
            counts = await self._letters.counted(list(picture), _seen_by(caller))
            self._counted[caller.units] = picture, counts
        return {s.topic: counts.get(s.topic, 0) for s in opened}

    async def latest(self, caller: Caller, request: Request, topics: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """The last events of some topics, newest first. Raises NotFound, Forbidden."""
        await self._check_readable(caller, request, topics)
        found = await latest(self._connection, topics, limit, _seen_by(caller))
        return [document(record) for record in found]

    async def dead_letters(
        self, caller: Caller, request: Request, topic: str | None, limit: int, cursor: str | None = None
    ) -> tuple[list[Letter], str | None]:
        """Dead letters of one topic or of all, newest first, as the caller sees units; and the cursor of older ones."""
        allow(caller, "deadletter.read")
        topics = [_dlq(topic)] if topic else await self._with_letters(caller, request)
        await self._check_readable(caller, request, topics)
        below = _positions(cursor, "cursor") if cursor else None
        found, rest = await self._letters.waiting(topics, limit, _seen_by(caller), below)
        return found, _position(rest) or None

    async def replay(
        self, caller: Caller, request: Request, topic: str, places: Sequence[tuple[int, int]] | None
    ) -> tuple[int, int]:
        """Give dead letters to their service again: the named ones, or all that wait and can be.

        Answers how many were, and how many were left. Raises Forbidden, NotFound, and Invalid for a named one that
        cannot be replayed.
        """
        allow(caller, "deadletter.replay")
        await self._check_readable(caller, request, [topic])
        if places is None:
            return await self._replay_all(caller, topic)
        chosen = await self._letters.pick(topic, places)
        if not all(caller.sees(_unit(letter.record)) for letter in chosen):
            raise Forbidden(f"{caller.actor} does not act for the business unit of this record")
        return await self._letters.replay(chosen), 0

    async def _replay_all(self, caller: Caller, topic: str) -> tuple[int, int]:
        replayed, left, sees = 0, 0, _seen_by(caller)
        async with aclosing(self._letters.unreplayed(topic)) as parts:
            async for letters in parts:
                theirs = [letter for letter in letters if sees(letter.record)]
                chosen = [letter for letter in theirs if letter.why_not() is None]
                replayed, left = replayed + await self._letters.replay(chosen), left + len(theirs) - len(chosen)
        return replayed, left

    async def events(
        self, caller: Caller, request: Request, topics: Sequence[str], position: str | None, *, from_start: bool
    ) -> AsyncGenerator[Told]:
        """Events of some topics as they happen, of the units that the caller sees; a sign of life between them.

        It ends with the caller's token.
        """
        await self._check_readable(caller, request, topics)
        if self._free_streams <= 0:
            raise Busy("too many event streams are open; close one and try again")
        self._free_streams -= 1
        try:
            follower = Follower(self._connection, topics)
            async with aclosing(follower.follow(_positions(position), from_start=from_start)) as records:
                async for record in records:
                    if self._stopping.is_set() or time.time() >= caller.expires:
                        return
                    shown = record is not None and caller.sees(_unit(record))
                    yield Told(document(record) if record and shown else None, _position(follower.positions))
        finally:
            self._free_streams += 1

    async def _check_readable(self, caller: Caller, request: Request, topics: Sequence[str]) -> None:
        """Raises Forbidden for what the caller's roles do not open, NotFound for no topic or another unit's."""
        for topic in topics:
            _check_opens(caller, topic)
        for topic in topics:
            await self._check_known(caller, request, topic)

    async def _check_known(self, caller: Caller, request: Request, topic: str) -> None:
        """A topic of an endpoint is there only for who sees the endpoint: producers name units as they like."""
        endpoint = endpoint_of(topic)
        if endpoint is None or caller.sees("*"):
            return
        answer = await self._gateway.ask(request, "deployer", f"/v1/endpoints/{quote(endpoint, safe='')}")
        if answer.status == 503:
            raise Unavailable("who may see this endpoint cannot be asked: the deployer is away")
        if not answer.ok:
            raise NotFound(f"there is no topic {topic[:249]}")

    async def _with_letters(self, caller: Caller, request: Request) -> list[str]:
        states = [s for s in await self.topics(caller, request) if s.topic.startswith("dlq.") and s.records]
        return [s.topic for s in states if _opens(caller, s.topic)]


def document(record: Seen) -> dict[str, Any]:
    """A record as a CloudEvent in JSON, with where it lies."""
    told: dict[str, Any] = {
        "id": record.header("ce_id"),
        "type": record.header("ce_type") or record.topic,
        "source": record.header("ce_source"),
        "subject": record.header("ce_subject"),
        "time": record.header("ce_time") or record.at.isoformat(),
        "unit": record.header("ce_unit"),
        "actor": record.header("ce_actor"),
        "correlationid": record.header("ce_correlationid"),
        "traceparent": record.header("ce_traceparent"),
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode(errors="replace") if record.key else None,
    }
    return told | _data(record.value)


def preview(record: Seen) -> str:
    """The beginning of a record's value as text, for people."""
    return (record.value or b"")[:_VALUE_LIMIT].decode(errors="replace")


def _data(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"data": None}
    try:
        return {"data": orjson.loads(value)}
    except orjson.JSONDecodeError:
        return {"data": None, "data_base64": base64.b64encode(value).decode()}


def _unit(record: Seen) -> str:
    """The business unit that a record belongs to. Without one it is for those who see all."""
    return record.header("ce_unit") or "*"


def _seen_by(caller: Caller) -> Callable[[Seen], bool]:
    """What the caller may see of a topic: asked while reading, so that others' records crowd nobody's out."""
    return lambda record: caller.sees(_unit(record))


def _dlq(topic: str) -> str:
    """The topic of a topic's dead letters; of such a topic itself."""
    return topic if topic.startswith("dlq.") else topic_of(topic)


def _is_ours(topic: str) -> bool:
    """Whether a contract names the topic, or the one whose dead letters it keeps: a cluster may serve others too."""
    return contract_of(topic.removeprefix("dlq.")) is not None


def _check_opens(caller: Caller, topic: str) -> None:
    """What a topic tells is open to the caller's roles; dead letters tell what their topic does. Raises Forbidden,
    NotFound."""
    allow(caller, "topic.read")
    if not _is_ours(topic):
        raise NotFound(f"there is no topic {topic[:249]}")
    if topic.startswith("dlq."):
        allow(caller, "deadletter.read")
    if topic.removeprefix("dlq.") == AuditRecorded.topic.name:
        allow(caller, "audit.read")


def _opens(caller: Caller, topic: str) -> bool:
    try:
        _check_opens(caller, topic)
    except Refusal:
        return False
    return True


def _trimmed(state: TopicState, endpoints: set[str]) -> TopicState:
    """A topic without the groups of endpoints that are not the caller's."""
    kept = (
        g for g in state.groups if not g.group.startswith("scorer.") or g.group.removeprefix("scorer.") in endpoints
    )
    return replace(state, groups=tuple(kept))


def _positions(text: str | None, field: str = "Last-Event-ID") -> dict[tuple[str, int], int]:
    """Positions as `_position` wrote them. Raises Invalid."""
    found: dict[tuple[str, int], int] = {}
    for part in (text or "").split(","):
        topic, partition, offset = ([*part.split(":"), "", ""])[:3]
        if not part:
            continue
        if not (_is_number(partition) and _is_number(offset)):
            raise Invalid(f"{field}: this position was not made here", field)
        found[topic, int(partition)] = int(offset)
    return found


def _is_number(text: str) -> bool:
    """Whole, and one that a broker can be asked for."""
    return text.isascii() and text.isdigit() and len(text) <= 18


def _position(at: dict[tuple[str, int], int]) -> str:
    return ",".join(f"{topic}:{partition}:{offset}" for (topic, partition), offset in at.items())
