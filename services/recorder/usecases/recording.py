"""Writes the inference log to Parquet: files named by offsets, their rows and the offset in one transaction."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import orjson
import pyarrow as pa

from contracts import ModelSchema
from services.kit.burial import Burial
from services.kit.db import Database, Tx
from services.kit.errors import Invalid, NotFound
from services.kit.ids import now
from services.kit.logged import Logged, readable
from services.kit.payloads import Opening, Payload, Payloads, decisions, features
from services.kit.repeats import Repeats, Seen
from services.kit.stream import PartitionBatch, Record

from .. import metrics, store
from ..domain.erasures import covering, pseudonym
from ..domain.layout import SCHEMA, Body, Head, Place, file_name, folder, table
from ..files import Files
from .schemas import Schemas

_ALONE = "application/json"

Letters = list[tuple[Record, BaseException | str]]


@dataclass(frozen=True, slots=True)
class Inference:
    """One record, read."""

    head: Head
    payload: Payload
    schema: ModelSchema | None
    record: Record
    objects: list[str]
    """What holds its payload alone, where that was too large for the log; a batch's files hold others' too."""

    @property
    def offset(self) -> int:
        return self.record.offset

    @property
    def unread(self) -> str:
        """The payload as the log has it, for rows that no schema explains."""
        body = orjson.loads(self.record.value or b"")
        return orjson.dumps({name: body[name] for name in ("request", "response")}).decode()


class Recording:
    """The handler of `inference.logged`."""

    def __init__(
        self, db: Database, files: Files, schemas: Schemas, payloads: Payloads, burial: Burial, key: bytes
    ) -> None:
        self._db = db
        self._key = key
        self._files = files
        self._schemas = schemas
        self._payloads = payloads
        self._burial = burial
        self._repeats = Repeats()
        self.arrived = asyncio.Event()
        """Set when inferences were recorded: outcomes may have waited for them."""

    async def fold(self, tx: Tx, batch: PartitionBatch) -> None:
        """Record a batch's new inferences, but those that were erased before they came."""
        await store.share(tx.session, store.FOLDING)
        seen = await self._repeats.open(tx.session, batch.partition, batch.first)
        letters: Letters = []
        folders: dict[tuple[str, str], list[Inference]] = defaultdict(list)
        for inference in await self._unforgotten(tx, await self._new(tx, batch, seen, letters)):
            head = inference.head
            folders[folder(head.endpoint, head.received_at), head.unit].append(inference)
        for (place, unit), inferences in folders.items():
            await self._write(tx, batch, place, unit, inferences)
        await seen.save(tx.session, batch.next)
        await self._burial.bury(batch, letters)
        tx.then.append(self.arrived.set)

    async def _new(self, tx: Tx, batch: PartitionBatch, seen: Seen, letters: Letters) -> list[Inference]:
        """The inferences that were never recorded, by writer and number, and by id."""
        fresh: dict[str, Inference] = {}
        opening = self._payloads.begin()
        for logged in readable(batch, self._burial, letters):
            if not logged.replayed and not seen.is_new(logged.writer, logged.seq):
                tx.then.append(metrics.REPEATS.inc)
            elif logged.body.get("failed") is not None:  # a shadow that decided nothing
                continue
            elif inference := await self._inference(logged, opening, letters):
                fresh.setdefault(inference.head.inference_id, inference)
        if not fresh:
            return []
        # A stream's producer that repeats an event after a takeover has another writer, but the same id.
        there = await store.already_there(tx.session, list(fresh))
        tx.then.append(partial(metrics.REPEATS.inc, len(there)))
        return [inference for id, inference in fresh.items() if id not in there]

    async def _unforgotten(self, tx: Tx, found: list[Inference]) -> list[Inference]:
        """Those that nobody erased; of the others not even the payload stays."""
        entities = {inference.head.entity for inference in found if inference.head.entity}
        if not entities or not await store.any_tombstone(tx.session):
            return found
        hashes = {entity: pseudonym(self._key, entity) for entity in entities}
        stones = await store.tombstones(tx.session, list(hashes.values()))
        kept: list[Inference] = []
        late: Counter[UUID] = Counter()
        for inference in found:
            head = inference.head
            stone = covering(stones, hashes[head.entity], head) if stones and head.entity else None
            if stone is None:
                kept.append(inference)
                continue
            late[stone.erasure] += 1
            await store.doom(tx.session, inference.objects)
        for erasure, count in late.items():
            await store.count_late(tx.session, erasure, count)
        return kept

    async def _inference(self, logged: Logged, opening: Opening, letters: Letters) -> Inference | None:
        try:
            head = _head(logged)
            schema = await self._schemas.find(head.endpoint, head.version)
            return Inference(head, await opening.open(logged, schema), schema, logged.record, _objects(logged))
        except (Invalid, NotFound, KeyError, TypeError, ValueError) as error:
            letters.append((logged.record, error))
            return None

    async def _write(self, tx: Tx, batch: PartitionBatch, place: str, unit: str, found: list[Inference]) -> None:
        first, last = found[0].offset, found[-1].offset
        path = f"{place}/{file_name(batch.partition, first, last)}"
        rows = await asyncio.to_thread(_table, found)
        bytes = await asyncio.to_thread(self._files.write, Place(path), [rows])
        heads = tuple(inference.head for inference in found)
        endpoint = heads[0].endpoint
        new = store.NewFile(
            path, endpoint, unit, batch.partition, first, last, rows.num_rows, heads, bytes,
            frozenset(i.head.inference_id for i in found if not i.payload.sampled),
            {i.head.inference_id: i.objects for i in found if i.objects},
        )  # fmt: skip
        await store.add_file(tx.session, new)
        tx.then.append(partial(_tell, new))


def _head(logged: Logged) -> Head:
    headers = logged.record.headers
    correlation = next((v.decode(errors="replace") for n, v in headers if n == "ce_correlationid"), None)
    head = logged.head()
    origin = head.origin
    return Head(
        head.inference_id, origin.endpoint, origin.unit, origin.use_case, origin.model, origin.version, origin.variant,
        origin.mode, origin.application, head.entity, head.request_id, correlation, head.received_at, head.latency_ms,
        head.rows, head.shadow_of, head.instead_of, head.params,
    )  # fmt: skip


def _objects(logged: Logged) -> list[str]:
    said = [logged.body.get(name) for name in ("request", "response")]
    references = [each.get("reference") for each in said if isinstance(each, dict)]
    return [r["digest"] for r in references if r and r.get("media_type") == _ALONE]


def _table(found: Sequence[Inference]) -> pa.Table:
    """The rows of one file, in the order of the log."""
    parts: list[pa.Table] = []
    start = 0
    for at in range(1, len(found) + 1):
        if at == len(found) or not _alike(found[at], found[start]):
            parts.append(_rows(found[start:at], found[start].schema))
            start = at
    return pa.concat_tables(parts) if parts else SCHEMA.empty_table()


def _alike(one: Inference, other: Inference) -> bool:
    return one.schema is other.schema and one.payload.sampled == other.payload.sampled


def _rows(found: Sequence[Inference], schema: ModelSchema | None) -> pa.Table:
    heads, payloads = [i.head for i in found], [i.payload for i in found]
    if not found[0].payload.sampled:
        return table(heads, Body({}, None, None))
    if schema is None:
        return table(heads, _unread(found))
    try:
        said = decisions(schema, payloads)
        return table(heads, Body(features(schema, payloads), said.prediction, said.score))
    except Invalid:
        if len(found) == 1:
            return table(heads, _unread(found))
        return pa.concat_tables([_rows([each], schema) for each in found])


def _unread(found: Sequence[Inference]) -> Body:
    return Body({}, None, None, tuple(inference.unread for inference in found))


def _tell(file: store.NewFile) -> None:
    metrics.FILES.inc()
    metrics.INFERENCES.labels(file.endpoint).inc(len(file.heads))
    metrics.ROWS.labels(file.endpoint).inc(file.rows)
    metrics.BEHIND.observe(max(0.0, (now() - file.heads[-1].received_at).total_seconds()))
