"""What a micro-batch says: answers and refusals for producers, log records, dead letters for operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import orjson

from contracts import InferenceCompleted, InferenceLogged, InferenceRequested
from services.kit import deadletters
from services.kit.errors import Refusal, TooLarge
from services.kit.objects import Objects
from services.kit.recordbatch import Record
from services.kit.transaction_output import Output
from services.kit.transactional import Incoming

from ..endpoints import Endpoint
from ..logrecord import INLINE_LIMIT, offload
from ..served import Ask, Served
from . import wire
from .items import Item, Turn, in_pieces
from .records import BatchRecords

LARGEST_KEY = 64 * 1024
"""Of a producer's key, which goes back with its answer and into dead letters beside the whole record."""
WITHHELD = b'{"withheld":"this endpoint has sensitive columns: the record is where the headers say, for 24 hours"}'
_LARGEST_ANSWER = 880_000
"""Of an answer with its key: below the broker's largest message, which the producer's batches respect."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Of one endpoint's stream: where requests come from, and where answers, log records and dead letters go."""

    requested: str
    completed: str
    logged: str
    dead: str

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.completed, self.logged, self.dead

    @classmethod
    def of(cls, endpoint: str) -> Self:
        requested = InferenceRequested.topic.of(endpoint)
        completed, logged = InferenceCompleted.topic.of(endpoint), InferenceLogged.topic.name
        return cls(requested, completed, logged, deadletters.topic_of(requested))


@dataclass(frozen=True, slots=True)
class Place:
    """Of a micro-batch: its endpoint as far as it is known, the partition it is from, and when it came."""

    name: str
    endpoint: Endpoint | None
    partition: int
    moment: datetime


class Saying:
    """Puts what one micro-batch says into its transaction's output, in the order of its records."""

    def __init__(self, topics: Topics, place: Place, stamps: wire.Stamps, out: Output) -> None:
        self._topics = topics
        self._place = place
        self._out = out
        self._headers = stamps.of(wire.stamp(place.moment))
        self._answers = out.to(topics.completed, place.partition % out.partitions(topics.completed))
        self._writer = f"stream.{place.name}.{place.partition}"

    async def say(
        self, items: Sequence[Item], served: Served, latency_ms: float, turn: Turn, rotation: int, objects: Objects
    ) -> None:
        """`served`: who answered where an item does not say it; `rotation`: which partition the log goes to."""
        logs = self._out.to(self._topics.logged, rotation % self._out.partitions(self._topics.logged))
        by = {item.scoring.served if item.scoring else served for item in items}
        records = {one: BatchRecords(one, self._headers, self._place.moment, latency_ms) for one in by}
        shadowed = self._place.endpoint is not None and bool(self._place.endpoint.shadows)
        writer = b',"writer":"%b","seq":' % self._writer.encode()
        async for piece in in_pieces(items):
            told, kept = list[Record](), list[Record]()
            for item in piece:
                if item.repeats is not None:
                    item.answer, item.refusal, item.told = item.repeats.answer, item.repeats.refusal, True
                key, answer, envelope = item.record.key, item.answer, item.envelope
                if answer is None or len(answer) + len(key or b"") > _LARGEST_ANSWER:
                    told.append(self._failure(_refused(item)))
                    continue
                assert envelope
                id = item.inference_id.encode()
                if not item.told:
                    turn.answered.append(item.key)
                    turn.places.append(self._answers.count + len(told))
                    own = records[item.scoring.served if item.scoring else served]
                    if shadowed or not (record := own.plain(item, id, writer)):
                        record = await self._log(item, own, objects, turn if shadowed else None)
                    kept.append(record)
                told.append((key, answer, self._headers.answer(envelope, id)))
            self._answers.extend(told)
            logs.extend(kept)

    def reject(self, item: Item, error: Exception) -> None:
        """Say that a record could not be handled."""
        self._answers.extend([self._failure(item, error)])

    async def _log(self, item: Item, records: BatchRecords, objects: Objects, shadowed: Turn | None) -> Record:
        """The record of one with more to say than a plain one; `shadowed` keeps a copy for shadows."""
        record = records.record(item)
        if item.instead_of is not None:
            record.say("instead_of", item.instead_of)
        headers = records.headers(record, item)
        if len(record.request) + len(record.response) > INLINE_LIMIT:
            record = await offload(record, objects)
        if shadowed and item.envelope:
            shadowed.copies.append((Ask(item.body, received_at=self._place.moment), record, item.envelope.source))
        return item.inference_id.encode(), record.value(self._writer, item.record.offset + 1), headers

    def _failure(self, item: Item, error: Exception | None = None) -> Record:
        """The error event for the producer; the operator's dead letter is in the output then."""
        refusal, record = item.refusal or Refusal("the record was not answered"), item.record
        key = record.key if len(record.key or b"") <= LARGEST_KEY else None
        said = orjson.dumps({"error": refusal.message[:1500], "status": refusal.status})
        requested, dead, partition = self._topics.requested, self._topics.dead, self._place.partition
        id = f"{requested}/{partition}/{record.offset}".encode()
        story = self._headers.failure(id, item.envelope, item.inference_id.encode() or None)
        place = ("scorer", requested, partition, record.offset)
        value, reason = deadletters.letter(self._dead_value(record), self._owned(record), *place, error or refusal)
        self._out.add(dead, partition % self._out.partitions(dead), key, value, reason)
        return key, said, story

    def _owned(self, record: Incoming) -> deadletters.Raw:
        """A record's headers with the unit of its endpoint: who sees the letter is not for its producer to say."""
        endpoint = self._place.endpoint
        if endpoint is None:
            return record.headers
        said = [(name, content) for name, content in record.headers if name != "ce_unit"]
        return [("ce_unit", endpoint.unit.encode()), *said]

    def _dead_value(self, record: Incoming) -> bytes | None:
        endpoint = self._place.endpoint
        private = endpoint is None or any(one.codec.sensitive for one in endpoint.by_version.values())
        return WITHHELD if private else record.value


def _refused(item: Item) -> Item:
    """One without an answer, or with one that no record can hold: that is a refusal from here on."""
    if item.answer is not None:
        size = len(item.answer) + len(item.record.key or b"")
        item.answer = None
        item.refusal = TooLarge(f"the answer has {size} bytes with its key, more than a record holds: send fewer rows")
    return item
