"""Explains samples of decisions for the monitor, behind everything else: nobody waits for it, and what it may use is
bounded. A host that ends loses what waited in it: it is a sample."""

import asyncio
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
from prometheus_client import Counter
from pydantic import ValidationError

from contracts import AttributionsMeasured, AttributionsRequested
from services.kit.burial import Burial
from services.kit.cloudevents import envelope
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import Conflict, Invalid, NotFound, Unavailable
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.stream import BatchConsumer, PartitionBatch, Record
from services.kit.telemetry import get_logger

from ..runtimes.errors import CannotLoad, ModelFailed
from ..settings import ScorerSettings
from . import attributions
from .attributions import Measure
from .domain import Array
from .gateway import Records, Version
from .opening import Ask, Models, asking

log = get_logger(__name__)

ROWS = Counter(
    "fairlead_scorer_attributions", "Rows explained for the monitor, that could not be, or that came too fast",
    ["endpoint", "result"],
)  # fmt: skip
SECONDS = Counter("fairlead_scorer_attribution_seconds", "Time that it took, by the clock", ["endpoint"])

_WAITING_EACH, _WAITING = 30, 1_000
"""Windows of one endpoint, and of all: the older ones go, a new endpoint's do not wait."""
_KEPT = 20
"""Measures, the longest unasked goes first."""
_PART_ROWS = 50
_KEPT_S = 600.0
_IDLE_S = 0.5


@dataclass(frozen=True)
class _Known:
    measure: Measure
    kept: Array
    """Places of the columns that are told."""
    reference: Array
    """[rows, those columns]"""
    version: Version
    until: float


class Watching:
    """Hears `attributions.requested` and says `attributions.measured`."""

    def __init__(
        self, settings: ScorerSettings, db: Database, objects: Objects, records: Records, burial: Burial,
        progress: Progress,
    ) -> None:  # fmt: skip
        self._db, self._records, self._burial = db, records, burial
        self._models = Models(settings, objects)
        self._share = settings.attribution_cpu
        self._rested_s = 0.0
        """Of the work in hand, what it rested for already."""
        self._waiting: OrderedDict[str, deque[tuple[AttributionsRequested, str]]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str, int, str], _Known] = OrderedDict()
        self._consumer = BatchConsumer(
            settings, db, [AttributionsRequested.topic.name], "scorer.attributions", self.hear, burial,
            progress=progress,
        )  # fmt: skip

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._consumer.run())
                tasks.create_task(self._work())
        finally:
            self._models.close()

    async def hear(self, tx: Tx, batch: PartitionBatch) -> None:
        """Take what is asked for into the queue, once it is committed that it was heard."""
        unreadable: list[tuple[Record, BaseException | str]] = []
        for record in batch.records:
            if record.value is None or self._burial.for_another(record):
                continue
            try:
                event, unit = AttributionsRequested.from_json(record.value), envelope(record.headers).unit
            except (ValidationError, Invalid) as error:
                unreadable.append((record, error))
            else:
                tx.then.append(lambda event=event, unit=unit: self._put(event, unit))
        await self._burial.bury(batch, unreadable)

    def _put(self, event: AttributionsRequested, unit: str) -> None:
        of = self._waiting.setdefault(event.endpoint, deque())
        if len(of) >= _WAITING_EACH or sum(map(len, self._waiting.values())) >= _WAITING:
            dropped = of.popleft()[0] if of else event
            ROWS.labels(event.endpoint, "too fast").inc(len(dropped.rows))
            if dropped is event:
                del self._waiting[event.endpoint]
                return
        of.append((event, unit))

    async def _work(self) -> None:
        """Endpoints take turns; after each piece of work it rests, so that it takes its share of a processor."""
        while True:
            if not self._waiting:
                await asyncio.sleep(_IDLE_S)
                continue
            name, of = self._waiting.popitem(last=False)
            event, unit = of.popleft()
            if of:
                self._waiting[name] = of
            with use(Context(system("scorer", unit))):
                await self._answer(event, unit)

    async def _answer(self, event: AttributionsRequested, unit: str) -> None:
        started, self._rested_s = time.monotonic(), 0.0
        try:
            said = await self.measured(event, unit)
        except Unavailable as error:
            log.warning("attributions are left out", endpoint=event.endpoint, reason=error.message)
            ROWS.labels(event.endpoint, "unavailable").inc(len(event.rows))
            await self._rest(started)
            return
        async with self._db.transaction(unit=unit) as tx:
            tx.emit(said, unit=unit, audited=False)
        ROWS.labels(event.endpoint, "explained").inc(len(said.rows))
        ROWS.labels(event.endpoint, "unexplained").inc(said.unexplained)
        SECONDS.labels(event.endpoint).inc(said.busy_s)
        await self._rest(time.monotonic() - max(0.0, said.busy_s - self._rested_s))

    async def _rest(self, started: float) -> None:
        await asyncio.sleep((time.monotonic() - started) * (1 / self._share - 1))

    async def measured(self, event: AttributionsRequested, unit: str) -> AttributionsMeasured:
        """What is to be said: contributions, or why there are none. Raises Unavailable."""
        said = AttributionsMeasured(
            endpoint=event.endpoint, model=event.model, version=event.version, window=event.window
        )
        try:
            return said.model_copy(update=await self._measured(event, unit))
        except (Conflict, Invalid, NotFound) as error:
            return said.model_copy(update={"cannot": error.message, "unexplained": len(event.rows)})
        except (CannotLoad, ModelFailed) as error:
            reason = f"the model cannot be asked: {str(error)[:300]}"
            return said.model_copy(update={"cannot": reason, "unexplained": len(event.rows)})

    async def _measured(self, event: AttributionsRequested, unit: str) -> dict[str, object]:
        known, busy_s = await self._find(event, unit)
        started, measure = time.monotonic(), known.measure
        if measure.by_structure:
            found, unexplained = await measure.contributions(event.rows, None)
        else:
            async with self._models.opened(known.version, unit) as opened:
                coding = opened.coding
                for row in event.rows:
                    coding = coding.knowing(row)
                ask = asking(opened.runtime, coding, measure.schema.inputs)
                found, unexplained = await measure.contributions(event.rows, ask)
        return {
            "columns": tuple(measure.schema.columns[place].name for place in known.kept), "method": measure.method,
            "scale": measure.scale, "output": measure.output, "rows": _told(found[:, known.kept]),
            "reference": _told(known.reference) if event.reference else None, "unexplained": unexplained,
            "busy_s": round(busy_s + time.monotonic() - started, 6),
        }  # fmt: skip

    async def _find(self, event: AttributionsRequested, unit: str) -> tuple[_Known, float]:
        """How the version's rows are explained, with its reference; and how long it took to make them, if they were."""
        key = (unit, event.model, event.version, event.explaining)
        found = self._known.get(key)
        if found and time.monotonic() < found.until:
            self._known.move_to_end(key)
            return found, 0.0
        started = time.monotonic()
        version = await self._records.version(event.model, event.version)
        if found and found.version == version:
            made = _Known(found.measure, found.kept, found.reference, version, time.monotonic() + _KEPT_S)
            self._known[key] = made
            return made, 0.0
        attributions.check(version.model_schema)
        if version.format == "external":  # nobody is called to learn that it tells nothing
            attributions.ask_allowed(event.explaining, version.format)
        async with self._models.opened(version, unit) as opened:
            measure, rows = await attributions.measure(opened, version.model_schema, event.explaining, version.format)
            ask = asking(opened.runtime, opened.coding, version.model_schema.inputs)
            busy_s = time.monotonic() - started
            reference = await self._reference(measure, rows, ask)
        kept = attributions.influential(reference)
        self._known[key] = made = _Known(measure, kept, reference[:, kept], version, time.monotonic() + _KEPT_S)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return made, busy_s + self._rested_s

    async def _reference(self, measure: Measure, rows: Array, ask: Ask) -> Array:
        """Contributions of the reference rows that can be explained, with rests: there are many."""
        parts: list[Array] = []
        for at in range(0, len(rows), _PART_ROWS):
            started = time.monotonic()
            parts.append(await measure.coded(rows[at : at + _PART_ROWS], ask))
            self._rested_s += time.monotonic() - started
            await self._rest(started)
        made = np.concatenate(parts) if parts else np.zeros((0, rows.shape[1]))
        return made[np.isfinite(made).all(axis=1)]


def _told(rows: Array) -> tuple[tuple[float, ...], ...]:
    """Six digits: what is beyond them is rounding."""
    return tuple(tuple(float(f"{value:.6g}") for value in row) for row in rows.tolist())
