"""What the recorder does: it keeps inferences and outcomes, joins them, and finds them again."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from contracts import DeploymentChanged, ModelSchema, OutcomeObserved, OutcomeReported
from services.kit.auth import allow
from services.kit.burial import Burial
from services.kit.cloudevents import headers
from services.kit.context import Caller, Context, current, system, use
from services.kit.db import Database, Tx
from services.kit.errors import Forbidden, Invalid, NotFound
from services.kit.ids import now
from services.kit.objects import Objects
from services.kit.payloads import Payloads
from services.kit.producer import Outgoing, Producer
from services.kit.repeats import Repeats
from services.kit.settings import Settings
from services.kit.stream import PartitionBatch, Record

from . import store
from .domain import Outcome, Place, facts_of, observed, outcome_id
from .files import Files
from .rows import Inference, table_of

Letters = list[tuple[Record, BaseException | str]]


class Schemas:
    """The schemas of the versions that endpoints serve or served."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[tuple[str, int], ModelSchema] = {}

    async def learn(self, event: DeploymentChanged) -> None:
        with use(Context(system("recorder", event.unit))):
            async with self._db.transaction() as tx:
                await store.save_served(tx.session, event)

    async def find(self, endpoint: str, version: int) -> ModelSchema:
        """Raises NotFound for a version that never served there."""
        if (endpoint, version) not in self._known:
            async with self._db.chassis() as session:
                schema = await store.schema_of(session, endpoint, version)
            if schema is None:
                raise NotFound(f"version {version} never served endpoint {endpoint}")
            self._known[endpoint, version] = schema
        return self._known[endpoint, version]


class Outcomes:
    """Joins outcomes to the decisions that they are about, and says `outcome.observed`."""

    def __init__(self, settings: Settings, files: Files, schemas: Schemas) -> None:
        self._settings = settings
        self._files = files
        self._schemas = schemas
        self._producer: Producer | None = None

    async def join(self, tx: Tx, outcomes: Sequence[Outcome]) -> int:
        """Join what can be joined and park the rest; answers how many were new. Said before the commit: a repeat
        has the same id."""
        found = await store.decisions(tx.session, [o.inference_id for o in outcomes])
        fitting = [o for o in outcomes if o.inference_id in found and o.row < found[o.inference_id]["rows"]]
        early = [o for o in outcomes if o.inference_id not in found]
        if early:
            await store.park(tx.session, early)
        if not fitting:
            return 0
        at = now()
        new = await store.save_outcomes(tx.session, [(o, found[o.inference_id]["unit"]) for o in fitting], at)
        once = {(o.inference_id, o.row): o for o in reversed(fitting)}
        await self._say([(once[key], found[key[0]]) for key in sorted(new)], at)
        return len(new)

    async def _say(self, joined: Sequence[tuple[Outcome, dict[str, Any]]], at: datetime) -> None:
        records: list[Outgoing] = []
        for path, group in groupby(sorted(joined, key=lambda j: j[1]["path"]), key=lambda j: j[1]["path"]):
            members = list(group)
            rows = await self._files.rows(path, [d["first_row"] + o.row for o, d in members])
            for (outcome, decision), row in zip(members, rows, strict=True):
                schema = await self._schemas.find(decision["endpoint"], decision["version"])
                records.append(_said(observed(schema, decision, row, outcome, at), outcome, decision))
        if records:
            await (await self._open()).send_all(records)

    async def _open(self) -> Producer:
        if self._producer is None:
            self._producer = await Producer(self._settings).__aenter__()
        return self._producer

    async def close(self) -> None:
        """Close the connection to Kafka; the next outcome opens it again."""
        if self._producer:
            producer, self._producer = self._producer, None
            await producer.__aexit__(None, None, None)


def _said(event: OutcomeObserved, outcome: Outcome, decision: Mapping[str, Any]) -> Outgoing:
    story = Context(system("recorder", decision["unit"]), correlation_id=decision["correlation_id"])
    about = headers(OutcomeObserved, "recorder", event.key, story, decision["unit"], id=outcome_id(outcome))
    return OutcomeObserved.topic.name, event.key.encode(), event.to_json(), about


class Recording:
    """The handlers of the two streams; what they write commits with the stream's offset."""

    def __init__(self, schemas: Schemas, files: Files, payloads: Payloads, outcomes: Outcomes, burial: Burial) -> None:
        self._schemas = schemas
        self._files = files
        self._payloads = payloads
        self._outcomes = outcomes
        self._burial = burial
        self._repeats = Repeats()

    async def record(self, tx: Tx, batch: PartitionBatch) -> None:
        """Keep a batch of `inference.logged`: one file per endpoint and version, one index row per inference."""
        seen = await self._repeats.open(tx.session, batch.partition, batch.first)
        letters: Letters = []
        groups: dict[tuple[str, int], list[tuple[Record, Inference]]] = defaultdict(list)
        for record, logged in self._read(batch, letters):
            if seen.is_new(str(logged.get("writer")), int(logged.get("seq") or 0)):
                await self._sort_in(groups, record, logged, letters)
        ids: list[str] = []
        for key, members in groups.items():
            ids += await self._keep(tx, batch, key, members, letters)
        if ids and (waiting := await store.take_early(tx.session, ids)):
            await self._outcomes.join(tx, waiting)
        await seen.save(tx.session, batch.next)
        await self._burial.bury(batch, letters)

    async def hear_outcomes(self, tx: Tx, batch: PartitionBatch) -> None:
        """Join a batch of `outcome.reported`."""
        letters: Letters = []
        outcomes: list[Outcome] = []
        for record in batch.records:
            if record.value is None or self._burial.for_another(record):
                continue
            try:
                outcomes.append(outcome_of(OutcomeReported.from_json(record.value)))
            except (ValidationError, Invalid) as error:
                letters.append((record, Invalid(_first(error))))
        if outcomes:
            await self._outcomes.join(tx, outcomes)
        await self._burial.bury(batch, letters)

    async def close(self) -> None:
        """Close the connections to Kafka."""
        await self._burial.close()
        await self._outcomes.close()

    def _read(self, batch: PartitionBatch, letters: Letters) -> Iterator[tuple[Record, dict[str, Any]]]:
        for record in batch.records:
            if record.value is None or self._burial.for_another(record):
                continue
            try:
                yield record, orjson.loads(record.value)
            except orjson.JSONDecodeError as error:
                letters.append((record, Invalid(f"not JSON: {error}")))

    async def _sort_in(
        self, groups: dict[tuple[str, int], list[tuple[Record, Inference]]], record: Record, logged: dict[str, Any],
        letters: Letters,
    ) -> None:  # fmt: skip
        try:
            facts = facts_of(logged)
            about = dict(record.headers)
            story = about.get("ce_correlationid", b"").decode(errors="replace") or str(facts["inference_id"])
            inference = Inference(facts, story, await self._payloads.open(logged))
        except (Invalid, NotFound) as error:
            letters.append((record, error))
            return
        groups[facts["endpoint"], facts["version"]].append((record, inference))

    async def _keep(
        self, tx: Tx, batch: PartitionBatch, key: tuple[str, int], members: list[tuple[Record, Inference]],
        letters: Letters,
    ) -> list[str]:  # fmt: skip
        try:
            schema = await self._schemas.find(*key)
            members, table = _fitting(schema, members, letters)
        except NotFound as error:
            letters.extend((record, error) for record, _ in members)
            return []
        if table is None:
            return []
        inferences = [inference for _, inference in members]
        path = await self._files.write(inferences[0].facts, batch.partition, batch.first, batch.next - 1, table)
        await store.save_decisions(tx.session, list(_placed(inferences, path)))
        return [inference.id for inference in inferences]


def _fitting(
    schema: ModelSchema, members: list[tuple[Record, Inference]], letters: Letters
) -> tuple[list[tuple[Record, Inference]], pa.Table | None]:
    """The members whose rows fit the schema, and their table; the others become letters."""
    try:
        return members, table_of(schema, [inference for _, inference in members])
    except Invalid:
        fitting = []
    for record, inference in members:  # one of them does not fit: find out which
        try:
            table_of(schema, [inference])
            fitting.append((record, inference))
        except Invalid as error:
            letters.append((record, error))
    return fitting, table_of(schema, [inference for _, inference in fitting]) if fitting else None


def _placed(inferences: Sequence[Inference], path: str) -> Iterator[tuple[Inference, Place]]:
    first = 0
    for inference in inferences:
        yield inference, Place(path, first)
        first += int(inference.facts["rows"])


def outcome_of(reported: OutcomeReported) -> Outcome:
    """Raises Invalid for an outcome that says nothing, or about no row."""
    if reported.label is None and reported.value is None:
        raise Invalid("an outcome has a label, a value or both", "label")
    if reported.row < 0 or not reported.inference_id:
        raise Invalid("an outcome names an inference and a row from 0", "row")
    return Outcome(reported.inference_id, reported.row, reported.label, reported.value)


def _first(error: ValidationError | Invalid) -> str:
    if isinstance(error, Invalid):
        return error.message
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, found['loc'])) or 'the body'}: {found['msg']}"


@dataclass(frozen=True)
class Snapshot:
    """Frozen rows: what a retraining learns from and an audit looks at."""

    digest: str
    rows: int


class Reading:
    """What people and the retrainer ask the recorder."""

    def __init__(self, db: Database, files: Files, objects: Objects, outcomes: Outcomes) -> None:
        self._db = db
        self._files = files
        self._objects = objects
        self._outcomes = outcomes

    async def decision(self, inference_id: str) -> dict[str, Any]:
        """A decision with its rows and what followed. Raises NotFound."""
        async with self._db.reading() as session:
            found = (await store.decisions(session, [inference_id])).get(inference_id)
            if found is None:
                raise NotFound(f"no decision {inference_id[:80]} is recorded")
            outcomes = await store.outcomes_of(session, [inference_id])
        shown = range(found["first_row"], found["first_row"] + min(found["rows"], 1000))
        rows = await self._files.rows(found["path"], list(shown))
        kept = [{name: row[name] for name in ("row", "features", "prediction", "score")} for row in rows]
        return found | {"decided": kept, "outcomes": outcomes}

    async def search(self, filters: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
        async with self._db.reading() as session:
            return await store.search(session, filters, limit)

    async def report(self, caller: Caller, reported: Sequence[OutcomeReported]) -> tuple[int, int]:
        """Take outcomes from HTTP; answers how many were new and how many wait for their inference. Raises Forbidden
        for a decision of another unit."""
        outcomes = [outcome_of(each) for each in reported]
        ids = list({o.inference_id for o in outcomes})
        async with self._db.reading() as session:
            mine = await store.decisions(session, ids)
        with use(Context(system("recorder"), correlation_id=current().correlation_id)):
            async with self._db.reading() as session:
                every = await store.known_ids(session, ids)
        if every - set(mine):
            raise Forbidden(f"{caller.actor} has no decision {min(every - set(mine))[:80]}")
        early = sum(o.inference_id not in every for o in outcomes)
        async with self._db.transaction() as tx:
            return await self._outcomes.join(tx, outcomes), early

    async def snapshot(self, caller: Caller, endpoint: str, model: str, since: datetime | None) -> Snapshot:
        """All labelled rows of an endpoint's model since a moment, as one object. Raises NotFound without any."""
        allow(caller, "snapshot.make")
        async with self._db.transaction() as tx:
            places = await store.labelled(tx.session, endpoint, model, since)
            if not places:
                raise NotFound(f"no labelled rows of {model} behind {endpoint} are recorded")
            table = await self._joined(places)
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd")
            digest = await self._objects.put(sink.getvalue().to_pybytes())
            tx.record("snapshot.made", endpoint, digest=digest, rows=table.num_rows, model=model)
        return Snapshot(digest, table.num_rows)

    async def _joined(self, places: Sequence[tuple[str, int, Any]]) -> pa.Table:
        parts: list[pa.Table] = []
        for path, group in groupby(places, key=lambda place: place[0]):
            members = list(group)
            rows = (await self._files.table(path)).take(pa.array([row for _, row, _ in members], pa.int64()))
            struct = rows["features"].combine_chunks()
            columns = {field.name: struct.field(field.name) for field in struct.type}
            facts = {name: rows[name] for name in ("inference_id", "row", "received_at")}
            labels = pa.array([label for _, _, label in members])
            parts.append(pa.table({**columns, "label": labels, **facts}))
        return pa.concat_tables(parts, promote_options="permissive")
