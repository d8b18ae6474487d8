"""One endpoint's stream: requests to answers, log records and dead letters, all of one micro-batch at once."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.kit import deadletters
from services.kit.errors import Busy, Invalid, Refusal, Unavailable
from services.kit.ids import now
from services.kit.objects import Objects
from services.kit.transaction_output import Output, Placed
from services.kit.transactional import Incoming

from ..endpoints import Endpoint
from ..metering import Account
from ..served import Served
from ..shadows import Shadows
from . import sharing, wire
from .domain import Identities
from .history import History, header
from .items import Item, Turn, in_pieces
from .saying import LARGEST_KEY, Place, Saying, Topics
from .scoring import Scoring

_OURS = b"scorer"


def group_of(endpoint: str) -> str:
    """The consumer group of one endpoint's stream; groups of the scorer's other work have one dot more."""
    return f"scorer.{endpoint}"


class Endpoints(Protocol):
    """What this process has loaded."""

    def find(self, name: str) -> Endpoint | None:
        """The endpoint; None while it is not loaded."""
        ...

    async def wait(self, name: str) -> Endpoint:
        """The endpoint, as soon as it is loaded."""
        ...

    def shadows(self) -> Shadows:
        """Who scores copies of what was answered."""
        ...


class EndpointWork:
    """Implements `services.kit.transactional.Work` for one streaming endpoint."""

    def __init__(self, endpoint: str, endpoints: Endpoints, history: History, objects: Objects) -> None:
        self._name = endpoint
        self._endpoints = endpoints
        self._history = history
        self._objects = objects
        self._identities = Identities(endpoint)
        self._turns: dict[int, Turn] = {}
        self._rotation = 0
        self._scorings: dict[int, Scoring] = {}
        self._stamps: wire.Stamps | None = None
        self.topics = Topics.of(endpoint)

    # Work

    async def opened(self, partition: int) -> None:
        await self._history.catch_up(partition)

    async def handle(self, partition: int, records: Sequence[Incoming], out: Output) -> None:
        moment, started = now(), time.perf_counter()
        items: list[Item] = []
        async for piece in in_pieces(records):
            items += self._read(piece)
        await self._recognise(partition, [item for item in items if item.refusal is None])
        scoring = await self._score([i for i in items if i.answer is None and i.refusal is None and i.repeats is None])
        scored = time.perf_counter()
        self._rotation += 1
        saying, turn = self._saying(partition, moment, out), self._turns[partition]
        await saying.say(items, scoring.served, (scored - started) * 1000, turn, self._rotation, self._objects)
        self._count(scoring, items, scored - started, time.perf_counter() - scored)

    def reject(self, partition: int, record: Incoming, error: Exception, out: Output) -> None:
        self.dropped(partition)
        for item in self._read([record]):
            item.refusal = item.refusal or Refusal(f"the record could not be handled: {type(error).__name__}")
            self._saying(partition, now(), out).reject(item, error)

    async def committed(self, partition: int, placed: dict[tuple[str, int], list[Placed]]) -> None:
        turn = self._turns.get(partition)
        if turn is None:
            return
        try:
            await self._remember(partition, turn, placed)
        finally:  # until its answers are known, other lanes wait for it
            self.dropped(partition)
        self._copy(turn)

    def dropped(self, partition: int) -> None:
        if turn := self._turns.pop(partition, None):
            turn.over.set()

    def _copy(self, turn: Turn) -> None:
        """What is answered now goes to the shadows."""
        endpoint = self._endpoints.find(self._name) if turn.copies else None
        if endpoint and endpoint.shadows:
            shadows = self._endpoints.shadows()
            for ask, record, application in turn.copies:
                shadows.offer(endpoint.shadows, ask, record, application, "stream")

    # Steps

    def _read(self, records: Sequence[Incoming]) -> list[Item]:
        """What is ours to answer: not a replay that is addressed to another service."""
        items = [item for record in records if (item := _opened(record))]
        told = [(item, envelope) for item in items if (envelope := item.envelope) and item.is_event]
        ids, keys = self._identities.of([(envelope.source, envelope.id) for _, envelope in told])
        for (item, _), id, key in zip(told, ids, keys, strict=True):
            item.inference_id, item.key = id, key
        return items

    async def _recognise(self, partition: int, items: list[Item]) -> None:
        """Mark what was answered before, or is asked twice in this batch."""
        first: dict[str, Item] = {}
        for item in items:
            if (earlier := first.setdefault(item.inference_id, item)) is not item:
                item.repeats = earlier
        distinct = list(first.values())
        keys = [item.key for item in distinct]
        await self._claim(partition, set(keys))
        found = self._history.answered.find(keys)
        if not found:
            return
        for i, told in (await self._history.answers(found)).items():
            # Two ids may share a key: only the record itself says which inference it answered.
            if header(told.headers, "ce_inferenceid") == distinct[i].inference_id.encode():
                distinct[i].answer, distinct[i].told = told.value, True

    async def _claim(self, partition: int, keys: set[int]) -> None:
        """Take these ids for this lane; where another lane of this process is at one of them, wait for its end."""
        self.dropped(partition)
        while rival := next(
            (t for p, t in self._turns.items() if p != partition and not t.keys.isdisjoint(keys)), None
        ):
            await rival.over.wait()
        self._turns[partition] = Turn(keys)

    async def _score(self, items: list[Item]) -> Scoring:
        """Score what is new, with one version for the whole batch unless the endpoint has a choice; answers the
        champion's scoring. Waits while none is loaded."""
        left, by, is_first = items, None, True
        while True:
            endpoint = await self._current()
            scoring = self._scoring_of(endpoint.champion)
            if not is_first and not (endpoint.plain and scoring is by):
                # The version was replaced: all of the batch goes to the next one.
                left = items
                for item in items:
                    item.answer = item.refusal = item.scoring = item.instead_of = None
            by, is_first = scoring if endpoint.plain else None, False
            try:
                if endpoint.plain:
                    await scoring.score(left)
                else:
                    await sharing.score(endpoint, left, self._scoring_of)
                return scoring
            except (Busy, Unavailable):
                # Its sandbox may have to start again: what it answered before it went stays answered.
                left = [item for item in items if item.answer is None and item.refusal is None]
                await asyncio.sleep(0.1)

    async def _current(self) -> Endpoint:
        endpoint = await self._endpoints.wait(self._name)
        if self._stamps is None:
            self._stamps = wire.Stamps(self._name, endpoint.unit)
        return endpoint

    def _scoring_of(self, served: Served) -> Scoring:
        """A version's scoring; those of versions that are gone are forgotten."""
        version = served.origin.version
        known = self._scorings.get(version)
        if known is None or known.served is not served:
            endpoint = self._endpoints.find(self._name)
            there = endpoint.by_version if endpoint else {}
            self._scorings = {v: one for v, one in self._scorings.items() if there.get(v) is one.served}
            known = self._scorings[version] = Scoring(served)
        return known

    def _saying(self, partition: int, moment: datetime, out: Output) -> Saying:
        place = Place(self._name, self._endpoints.find(self._name), partition, moment)
        return Saying(self.topics, place, self._stamps or wire.Stamps(self._name, "*"), out)

    def _count(self, scoring: Scoring, items: list[Item], scoring_s: float, saying_s: float) -> None:
        by: dict[Scoring, list[Item]] = {scoring: items}
        if any(item.scoring for item in items):
            by = {}
            for item in items:
                by.setdefault(item.scoring or scoring, []).append(item)
        reading_s = max(0.0, scoring_s - sum(one.worked_s() for one in by))
        for one, mine in by.items():
            share = len(mine) / len(items) if items else 1.0
            _add(one.served.counts, mine, scoring_s, share * (reading_s + saying_s))

    async def _remember(self, partition: int, turn: Turn, placed: dict[tuple[str, int], list[Placed]]) -> None:
        for (topic, target), batches in placed.items():
            if topic != self.topics.completed:
                continue
            offsets, is_known = _offsets(batches), False
            if offsets is not None and target == partition:
                places = [offsets[place] for place in turn.places]
                is_known = self._history.committed(target, turn.answered, places, offsets)
            if not is_known:
                await self._history.catch_up(target)


def _opened(record: Incoming) -> Item | None:
    """A record with its envelope, or with what is wrong with it; None for a replay that is another service's."""
    said, item = dict(record.headers), Item(record, record.value or b"")
    if said.get(deadletters.FOR, _OURS) != _OURS:
        return None
    try:
        item.envelope, item.is_event = wire.read(said), True
        if record.value is None:
            raise Invalid("the record has no value: a V2 infer request is needed")
        if len(record.key or b"") > LARGEST_KEY:
            raise Invalid(f"the key has {len(record.key or b'')} bytes; {LARGEST_KEY} go with an answer at most")
    except Refusal as refusal:
        item.refusal = refusal
        item.envelope = item.envelope or wire.partly(said)
    return item


def _add(counts: Account, items: list[Item], scoring_s: float, own_s: float) -> None:
    counts.own_s += own_s
    for item in items:
        answer = item.answer
        if answer is None:
            counts.refuse(item.refusal or Refusal("the record was not answered"))
        elif not item.told:
            counts.inferences += 1
            counts.rows += item.rows
            counts.seconds += scoring_s
            counts.bytes_in += len(item.body)
            counts.bytes_out += len(answer)


def _offsets(batches: list[Placed]) -> list[int] | None:
    """The offset of each record in order; None where the broker did not tell one."""
    if any(batch.base_offset < 0 for batch in batches):
        return None
    return [batch.base_offset + i for batch in batches for i in range(batch.count)]
