"""Log records of one micro-batch: what all of them say is written once."""

from datetime import datetime

from services.kit.recordbatch import Record

from ..logrecord import INLINE_LIMIT, LogRecord, traceparent_of
from ..served import Served
from ..v2.rows import Row
from . import wire
from .items import Item

_PLACEHOLDER = "00000000-0000-0000-0000-000000000000"


class BatchRecords:
    """The records of one version, received at one moment."""

    def __init__(self, served: Served, headers: wire.Moment, moment: datetime, latency_ms: float) -> None:
        self._served = served
        self._headers = headers
        self._moment = moment
        self._latency_ms = latency_ms
        self._heads: dict[str, tuple[bytes, bytes]] = {}
        self._whole = served.records.payload_sample >= 1.0

    def plain(self, item: Item, id: bytes, writer: bytes) -> Record | None:
        """The log record of an answered item in one step; None of one with more to say.

        `id`: the inference's; `writer`: the member that follows the payloads, and the next one's name. The same as
        `record` and `headers` give, at half of what they cost.
        """
        asked, envelope, answer, body = item.asked, item.envelope, item.answer, item.body
        if type(asked) is not Row or not asked.bare or item.instead_of or not self._whole:
            return None
        assert envelope and answer
        if len(body) + len(answer) > INLINE_LIMIT:
            return None
        source = envelope.source
        before, after = self._heads.get(source) or self._head(source)
        number = b"%d}" % (item.record.offset + 1)
        value = b"".join((before, id, after, b',"request":', body, b',"response":', answer, writer, number))
        parent = (envelope.traceparent or traceparent_of(item.inference_id)).encode()
        if envelope.correlation_id is None and envelope.traceparent is None:
            return id, value, self._headers.first(id, parent, source)
        story = id if envelope.correlation_id is None else envelope.correlation_id.encode()
        return id, value, self._headers.log(id, story, parent, source)

    def record(self, item: Item) -> LogRecord:
        """The log of one answered item."""
        made = self._record(item)
        if item.params:
            made.add("params", self._served.codec.told(item.params))
        return made

    def _record(self, item: Item) -> LogRecord:
        asked, envelope = item.asked, item.envelope
        assert asked and envelope and item.answer
        if asked.entity is not None or asked.id is not None or item.rows != 1:
            return self._built(item, envelope, item.answer)
        before, after = self._head(envelope.source)
        id = item.inference_id
        made = LogRecord(
            id, before + id.encode() + after, item.logged, item.answer,
            asked.correlation_id or envelope.correlation_id or id, envelope.traceparent or traceparent_of(id),
        )  # fmt: skip
        return made if self._served.records.payload_sample >= 1.0 else self._served.records.sampled(made)

    def headers(self, record: LogRecord, item: Item) -> bytes:
        """The block of Kafka headers of an item's log record."""
        assert item.envelope
        story, parent = record.correlation_id.encode(), record.traceparent.encode()
        return self._headers.log(item.inference_id.encode(), story, parent, item.envelope.source)

    def _head(self, application: str) -> tuple[bytes, bytes]:
        """Everything before and after the inference id of a record with nothing of its own."""
        if application not in self._heads:
            made = self._served.records.record(
                inference_id=_PLACEHOLDER, mode="stream", application=application, received_at=self._moment,
                latency_ms=self._latency_ms, rows=1, request=b"", response=b"",
            )  # fmt: skip
            before, _, after = made.head.partition(_PLACEHOLDER.encode())
            self._heads[application] = before, after
        return self._heads[application]

    def _built(self, item: Item, envelope: wire.Envelope, answer: bytes) -> LogRecord:
        asked = item.asked
        assert asked
        return self._served.records.record(
            inference_id=item.inference_id, mode="stream", application=envelope.source, received_at=self._moment,
            latency_ms=self._latency_ms, rows=item.rows, request=item.logged, response=answer, entity=asked.entity,
            request_id=asked.id, correlation_id=asked.correlation_id or envelope.correlation_id,
            traceparent=envelope.traceparent,
        )  # fmt: skip
