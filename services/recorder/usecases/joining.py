"""Outcomes meet their inferences, however early or late, and are said as `outcome.observed`."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from math import isfinite
from typing import Any

import orjson
from pydantic import ValidationError

from contracts import Decided, OutcomeObserved, OutcomeReported
from services.kit.burial import Burial
from services.kit.cloudevents import headers
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import Invalid
from services.kit.ids import now
from services.kit.producer import Outgoing, Producer
from services.kit.stream import PartitionBatch, Record
from services.kit.strict import refused

from .. import metrics, store
from ..domain.layout import Place as FilePlace
from ..domain.outcomes import PAUSES, Known, Report, checked, units_of, within
from ..files import Files, Lost
from .schemas import Schemas

_AT_ONCE = 2_000
_REPORTERS = 100
"""Of whom at most is told what did not meet its decision."""
_LATELY = timedelta(hours=1)
"""By so much a shadow's record may come later than the truth about it."""
_TOPIC = OutcomeReported.topic.name
_COLUMNS = (
    "inference_id", "row", "model", "version", "variant", "use_case", "entity", "received_at", "prediction",
    "prediction_text", "score", "features", "texts", "shadow_of",
)  # fmt: skip
"""Of a recorded row, what an outcome says of it."""
_LOST = "the recorded row is lost: its file cannot be read"

Place = tuple[str, int]
"""An inference's id and the number of a row of it."""
Rows = dict[Place, dict[str, Any]]
"""Recorded rows, by column."""


class Joining:
    """The handler of `outcome.reported`, the API's intake, and the join."""

    def __init__(
        self, db: Database, files: Files, schemas: Schemas, burial: Burial, topic_units: frozenset[str]
    ) -> None:
        self._db = db
        self._files = files
        self._schemas = schemas
        self._burial = burial
        self._topic_units = topic_units
        self.reported = asyncio.Event()

    async def fold(self, tx: Tx, batch: PartitionBatch) -> None:
        """Keep what outsiders report; what is no outcome is a dead letter."""
        letters: list[tuple[Record, BaseException | str]] = []
        reports: list[Report] = []
        replayed: list[Report] = []
        for record in batch.records:
            if record.value is None or self._burial.for_another(record):
                continue
            try:
                event = _event(record)
                units = units_of(_header(record, "ce_unit"), self._topic_units)
            except Invalid as reason:
                letters.append((record, reason))
                continue
            reports.append(Report(
                event.inference_id, event.row, event.label, event.value, _actor(record), units, batch.partition,
                record.offset,
            ))  # fmt: skip
            if record.addressee is not None:
                replayed.append(reports[-1])
        await self._keep(tx, reports)
        await store.reopen(tx.session, replayed)
        await self._burial.bury(batch, letters)
        tx.then.append(partial(metrics.OUTCOMES.labels("invalid").inc, len(letters)))
        tx.then.append(self.reported.set)

    async def report(self, caller: Caller, events: Sequence[OutcomeReported]) -> int:
        """Keep outcomes that a caller gives; all of them or, where one is invalid, none. Answers how many are new.

        A row that an inference of the caller's units does not have is invalid; of other inferences nothing is told.
        """
        for place, event in enumerate(events):
            try:
                checked(event)
            except Invalid as reason:
                raise Invalid(f"outcomes.{place}.{reason.message}", f"outcomes.{place}.{reason.field}") from None
        async with self._db.transaction(unit="*") as tx:
            known = await store.sizes(tx.session, list({event.inference_id for event in events}))
            within({id: rows for id, (unit, rows) in known.items() if caller.sees(unit)}, events)
            reports = [Report(e.inference_id, e.row, e.label, e.value, caller.actor, caller.units) for e in events]
            new = await self._keep(tx, reports)
            unit = next(iter(caller.units)) if len(caller.units) == 1 else None
            tx.record("outcomes.reported", caller.actor, unit=unit, outcomes=len(events), new=new)
            tx.then.append(self.reported.set)
        return new

    async def _keep(self, tx: Tx, reports: Sequence[Report]) -> int:
        kept = await store.report(tx.session, reports)
        told = {"reported": kept.new, "repeated": kept.repeated, "withheld": kept.withheld}
        tx.then += [partial(metrics.OUTCOMES.labels(what).inc, count) for what, count in told.items()]
        return kept.new

    async def seek(self) -> bool:
        """Look up what was reported since, and a part of what was to be looked up again; answers whether any changed.

        What has no decision yet waits for it, or for its next pause to end: it is not looked at in every round.
        """
        async with self._db.transaction() as tx:
            return await store.seek(tx.session, PAUSES) > 0

    async def join(self, producer: Producer) -> int:
        """Say what has met; said again under the same id where a crash came between saying and noting."""
        async with self._db.transaction() as tx:
            await store.share(tx.session, store.MOVING)
            known = await store.met(tx.session, _AT_ONCE)
            if not known:
                return 0
            rows, at = await self._decided(tx, known), now()
            said = [await self._said(each, rows, at) for each in known]
            refusals = [each if isinstance(each, str) else None for each in said]
            await self._bury([(k.report, refusal) for k, refusal in zip(known, refusals, strict=True) if refusal])
            await producer.send_all([each for each in said if not isinstance(each, str)])
            await store.settle(tx.session, known, refusals, at)
            observed = {k.report.inference_id for k, refusal in zip(known, refusals, strict=True) if refusal is None}
            await store.report(tx.session, await store.for_shadows(tx.session, list(observed)))
        unsaid = sum(refusal is not None for refusal in refusals)
        metrics.OUTCOMES.labels("observed").inc(len(known) - unsaid)
        metrics.OUTCOMES.labels("refused").inc(unsaid)
        return len(known)

    async def _said(self, known: Known, rows: Rows, at: datetime) -> Outgoing | str:
        """The event of an outcome, or why it does not stand: one that cannot be said stops no other."""
        if refusal := known.refusal():
            return refusal
        if (row := rows.get(known.place)) is None:
            return _LOST
        told = rows.get(known.answered) if known.answered else None
        try:
            return _outgoing(known, await self._event(known, row, told, at))
        except ValidationError as error:
            return refused(error.errors(include_url=False, include_input=False), root="the recorded row").message

    async def follow(self) -> bool:
        """Outcomes of late become those of shadows that were recorded after them; answers whether there were any."""
        async with self._db.transaction() as tx:
            late = await store.for_late_shadows(tx.session, _LATELY, _AT_ONCE)
            await store.report(tx.session, late)
        return bool(late)

    async def date(self) -> bool:
        """Some outcomes of before learn when their decisions were made; answers whether there were any."""
        async with self._db.transaction() as tx:
            return await store.date_outcomes(tx.session) > 0

    async def expire(self, patience: timedelta) -> bool:
        """Some outcomes whose inference never came become dead letters; answers whether there were any.

        They stay in the books as expired for as long as they waited, so that somebody can see whose they were.
        """
        async with self._db.transaction() as tx:
            expired = await store.expired(tx.session, patience)
            await self._bury([(o, f"no inference {o.inference_id} within {patience.days} days") for o in expired])
            gone = await store.forget_expired(tx.session, patience)
        metrics.OUTCOMES.labels("expired").inc(len(expired))
        return bool(expired or gone)

    async def count(self) -> None:
        """Tell how many wait, and how many waited in vain."""
        async with self._db.reading() as session:
            for state, count in (await store.count_unmet(session)).items():
                metrics.UNMET.labels(state).set(count)

    async def unmet(self) -> list[store.Unmet]:
        """Reports whose decisions are not recorded, by who reported them; the most first."""
        async with self._db.reading() as session:
            return await store.unmet(session, _REPORTERS)

    async def _bury(self, refused: Sequence[tuple[Report, str]]) -> None:
        """What came over the topic; who reported by HTTP is not told, since ids of others are not to be probed."""
        letters: dict[int, list[tuple[Record, BaseException | str]]] = defaultdict(list)
        for outcome, reason in refused:
            if outcome.partition is not None and outcome.offset is not None:
                letters[outcome.partition].append((_as_it_came(outcome, outcome.offset), Invalid(reason)))
        for partition, buried in letters.items():
            records = [record for record, _ in buried]
            places = [record.offset for record in records]
            first, end = min(places), max(places) + 1
            await self._burial.bury(PartitionBatch(_TOPIC, partition, first, end, end, records), buried)

    async def _decided(self, tx: Tx, known: Sequence[Known]) -> Rows:
        """The recorded rows that outcomes are about, and those that callers were told of where these are shadows'.
        Those of a file that is lost are not among them."""
        wanted: dict[int, set[Place]] = defaultdict(set)
        for each in known:
            for file, rows_of in each.files.items():
                wanted[file] |= rows_of
        places = await store.places(tx.session, list(wanted))
        rows: Rows = {}
        for file, place in places.items():
            with suppress(Lost):
                rows |= await asyncio.to_thread(self._rows, place, wanted[file])
        return rows

    def _rows(self, place: FilePlace, wanted: set[Place]) -> Rows:
        rows = self._files.rows(place, wanted, _COLUMNS)
        return {(row["inference_id"], row["row"]): row for row in rows.to_pylist()}

    async def _event(
        self, known: Known, row: dict[str, Any], told: dict[str, Any] | None, at: datetime
    ) -> OutcomeObserved:
        schema = await self._schemas.find(known.endpoint, row["version"])
        grouped = {column.name for column in schema.columns if column.protected or column.segment} if schema else set()
        values = [*(row["features"] or ()), *(row["texts"] or ())]
        return OutcomeObserved(
            inference_id=known.report.inference_id, row=known.report.row, label=known.report.label,
            value=known.report.value, endpoint=known.endpoint, use_case=row["use_case"], model=row["model"],
            version=row["version"], variant=row["variant"], prediction=_prediction(row),
            score=_finite(row["score"]), entity=row["entity"],
            segments={n: v for n, v in values if n in grouped and (isinstance(v, str) or _finite(v) is not None)},
            received_at=row["received_at"], reported_at=known.reported_at, observed_at=at,
            shadow_of=row.get("shadow_of"), answered=_decided(told),
        )  # fmt: skip


def _event(record: Record) -> OutcomeReported:
    kind = next((v for n, v in record.headers if n == "ce_type"), b"outcome.reported")
    if kind != b"outcome.reported":
        raise Invalid(f"{_TOPIC} carries outcome.reported, not {kind[:80].decode(errors='replace')}")
    try:
        body = orjson.loads(record.value or b"")
        return checked(OutcomeReported.model_validate(body, strict=True))
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the value is not JSON: {error}") from None
    except ValidationError as error:
        raise refused(error.errors(include_url=False, include_input=False), root="the value") from None


def _prediction(row: dict[str, Any]) -> float | str | None:
    return _finite(row["prediction"]) if row["prediction_text"] is None else row["prediction_text"]


def _decided(row: dict[str, Any] | None) -> Decided | None:
    if row is None:
        return None
    return Decided(
        version=row["version"], variant=row["variant"], prediction=_prediction(row), score=_finite(row["score"])
    )


def _as_it_came(outcome: Report, offset: int) -> Record:
    value = OutcomeReported(
        inference_id=outcome.inference_id, row=outcome.row, label=outcome.label, value=outcome.value
    )
    units = outcome.units or frozenset()
    said = [("ce_unit", unit.encode()) for unit in units] if len(units) == 1 else []  # a replay claims no more
    return Record(offset, 0, outcome.inference_id.encode(), value.to_json(), said)


def _finite(number: float | None) -> float | None:
    """None of what no event can say: files that were written before may hold infinite numbers."""
    return number if number is not None and isfinite(number) else None


def _actor(record: Record) -> str:
    """Who says so, by its own word: Kafka tells a consumer no principal."""
    return "topic:" + (_header(record, "ce_source") or "").replace("\0", "")[:200]


def _header(record: Record, name: str) -> str | None:
    said = next((value for each, value in record.headers if each == name), None)
    return None if said is None else said.decode(errors="replace")


def _outgoing(known: Known, event: OutcomeObserved) -> Outgoing:
    with use(Context(system("recorder", known.unit))) as context:
        about = headers(OutcomeObserved, "recorder", event.key, context, known.unit, id=known.report.event_id)
    return OutcomeObserved.topic.name, event.key.encode(), event.to_json(), about
