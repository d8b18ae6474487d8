"""Explains samples of decisions for the monitor, behind everything else: nobody waits for it, and what it may use is
bounded. A host that ends loses what waited in it: it is a sample."""

import asyncio
import time
import traceback
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
from prometheus_client import Counter
from pydantic import ValidationError

from contracts import AttributionsMeasured, AttributionsRequested
from services.kit.away import is_away
from services.kit.burial import Burial
from services.kit.cloudevents import envelope
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import Conflict, Invalid, NotFound, Unavailable
from services.kit.explaining import printable
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.stream import BatchConsumer, PartitionBatch, Record
from services.kit.strict import refused
from services.kit.telemetry import get_logger

from ..runtimes.errors import CannotLoad, ModelFailed
from ..settings import ScorerSettings
from . import attributions
from .attributions import Measure
from .coding import Coding
from .domain import Array
from .gateway import Records, Version
from .kept import Opened
from .opening import Ask, Models, asking
from .pace import Pace
from .waiting import Waiting

log = get_logger(__name__)

ROWS = Counter(
    "fairlead_scorer_attributions", "Rows explained for the monitor, that could not be, or that came too fast",
    ["endpoint", "result"],
)  # fmt: skip
SECONDS = Counter("fairlead_scorer_attribution_seconds", "Time that it took, by the clock", ["endpoint"])

_KEPT, _REFUSED = 20, 1_000
"""Measures, and reasons why there is none; the longest unasked go first."""
_PART_ROWS = 50
_KEPT_S = 600.0
_IDLE_S = 0.5

_Key = tuple[str, str, int, str]
"""Unit, model, version, and which models are explained."""


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
        self._share, self._most_s = settings.attribution_cpu, settings.attribution_s
        self._waiting = Waiting()
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._refused: OrderedDict[_Key, tuple[str, float]] = OrderedDict()
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
            except ValidationError as error:  # its own words hold the values of the row
                errors = error.errors(include_url=False, include_input=False)
                unreadable.append((record, refused(errors, root="the body")))
            except Invalid as error:
                unreadable.append((record, error))
            else:
                tx.then.append(lambda event=event, unit=unit: self._put(event, unit))
        await self._burial.bury(batch, unreadable)

    def _put(self, event: AttributionsRequested, unit: str) -> None:
        for dropped in self._waiting.put(event, unit):
            ROWS.labels(event.endpoint, "too fast").inc(len(dropped.rows))

    async def _work(self) -> None:
        """Endpoints take turns; after each piece of work it rests, so that it takes its share of a processor."""
        while True:
            taken = self._waiting.take()
            if taken is None:
                await asyncio.sleep(_IDLE_S)
                continue
            event, unit = taken
            with use(Context(system("scorer", unit))):
                await self._answer(event, unit)

    async def _answer(self, event: AttributionsRequested, unit: str) -> None:
        pace = self.pace()
        try:
            said = await self.measured(event, unit, pace)
            async with self._db.transaction(unit=unit) as tx:
                tx.emit(said, unit=unit, audited=False)
        except Exception as error:  # noqa: BLE001 - a stranger's model makes anything fail; other endpoints go on
            _left_out(event, error)
        else:
            ROWS.labels(event.endpoint, "explained").inc(len(said.rows))
            ROWS.labels(event.endpoint, "unexplained").inc(said.unexplained)
        SECONDS.labels(event.endpoint).inc(pace.busy_s)
        await pace.rest()

    def pace(self) -> Pace:
        """For one answer that begins now."""
        return Pace(self._share, self._most_s)

    async def measured(self, event: AttributionsRequested, unit: str, pace: Pace) -> AttributionsMeasured:
        """What is to be said: contributions, or why there are none. Raises Unavailable."""
        key = (unit, event.model, event.version, event.explaining)
        told: dict[str, object]
        if cannot := self._refusal(key):
            told = {"cannot": cannot, "unexplained": len(event.rows)}
        else:
            try:
                told = await self._measured(event, unit, pace)
            except (Conflict, Invalid, NotFound, CannotLoad) as error:
                told = {"cannot": self._refuse(key, _reason(error)), "unexplained": len(event.rows)}
        return AttributionsMeasured(
            endpoint=event.endpoint, model=event.model, version=event.version, window=event.window
        ).model_copy(update=told | {"busy_s": round(pace.busy_s, 6)})

    def _refusal(self, key: _Key) -> str | None:
        """Why it was found lately that this cannot be explained: to find it again costs as much."""
        cannot, until = self._refused.get(key, (None, 0.0))
        return cannot if time.monotonic() < until else None

    def _refuse(self, key: _Key, cannot: str) -> str:
        self._refused[key] = cannot, time.monotonic() + _KEPT_S
        self._refused.move_to_end(key)
        while len(self._refused) > _REFUSED:
            self._refused.popitem(last=False)
        return cannot

    async def _measured(self, event: AttributionsRequested, unit: str, pace: Pace) -> dict[str, object]:
        known = await self._find(event, unit, pace)
        measure = known.measure
        if measure.structure:
            found, unexplained = await _explained(event, measure, None, pace)
        else:
            async with self._opened(known.version, unit, pace) as opened:
                found, unexplained = await _explained(event, measure, opened, pace)
        return {
            "columns": tuple(measure.schema.columns[place].name for place in known.kept), "method": measure.method,
            "scale": measure.scale, "output": measure.output, "rows": _told(found[:, known.kept]),
            "reference": _told(known.reference) if event.reference else None, "unexplained": unexplained,
        }  # fmt: skip

    @asynccontextmanager
    async def _opened(self, version: Version, unit: str, pace: Pace) -> AsyncGenerator[Opened]:
        async with AsyncExitStack() as stack:
            with pace.opening():
                opened = await stack.enter_async_context(self._models.opened(version, unit))
            yield opened

    async def _find(self, event: AttributionsRequested, unit: str, pace: Pace) -> _Known:
        """How the version's rows are explained, with its reference."""
        key = (unit, event.model, event.version, event.explaining)
        found = self._known.get(key)
        if found and time.monotonic() < found.until:
            self._known.move_to_end(key)
            return found
        version = await self._records.version(event.model, event.version)
        if found and found.version == version:
            self._known[key] = made = replace(found, version=version, until=time.monotonic() + _KEPT_S)
            return made
        attributions.check(version.model_schema)
        if version.format == "external":  # nobody is called to learn that it tells nothing
            attributions.ask_allowed(event.explaining, version.format)
        async with self._opened(version, unit, pace) as opened:
            measure, rows = await attributions.measure(opened, version.model_schema, event.explaining, version.format)
            ask = pace.bounded(asking(opened.runtime, opened.coding, version.model_schema.inputs))
            reference = await _reference(measure, rows, ask, pace)
        kept = attributions.influential(reference)
        self._known[key] = made = _Known(measure, kept, reference[:, kept], version, time.monotonic() + _KEPT_S)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return made


async def _reference(measure: Measure, rows: Array, ask: Ask, pace: Pace) -> Array:
    """Contributions of the reference rows that can be explained, with rests: there are many."""
    parts: list[Array] = []
    for at in range(0, len(rows), _PART_ROWS):
        pace.check()
        parts.append(await measure.coded(rows[at : at + _PART_ROWS], ask))
        await pace.rest()
    made = np.concatenate(parts) if parts else np.zeros((0, rows.shape[1]))
    return made[np.isfinite(made).all(axis=1)]


async def _explained(
    event: AttributionsRequested, measure: Measure, opened: Opened | None, pace: Pace
) -> tuple[Array, int]:
    """Contributions of the sample's rows that can be explained, and how many cannot; with rests as well."""

    def asked(coding: Coding) -> Ask:
        assert opened is not None
        return pace.bounded(asking(opened.runtime, coding, measure.schema.inputs))

    parts, unexplained = [np.zeros((0, len(measure.schema.columns)))], 0
    for at in range(0, len(event.rows), _PART_ROWS):
        pace.check()
        part, odd = await measure.contributions(event.rows[at : at + _PART_ROWS], asked if opened else None)
        parts.append(part)
        unexplained += odd
        await pace.rest()
    return np.concatenate(parts), unexplained


def _left_out(event: AttributionsRequested, error: Exception) -> None:
    if is_away(error):
        reason = error.message if isinstance(error, Unavailable) else type(error).__name__
        log.warning("attributions are left out", endpoint=event.endpoint, reason=reason)
        ROWS.labels(event.endpoint, "unavailable").inc(len(event.rows))
        return
    # Where it failed, and not its words: they may hold values of the row.
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("attributions failed", endpoint=event.endpoint, error=type(error).__name__, where=where)
    ROWS.labels(event.endpoint, "failed").inc(len(event.rows))


def _reason(error: Exception) -> str:
    """In one line, and nothing that PostgreSQL cannot store: a stranger's model chose the words."""
    said = f"the model cannot be asked: {error}" if isinstance(error, CannotLoad | ModelFailed) else str(error)
    return " ".join(printable(said).split())[:400]


def _told(rows: Array) -> tuple[tuple[float, ...], ...]:
    """Six digits: what is beyond them is rounding."""
    return tuple(tuple(float(f"{value:.6g}") for value in row) for row in rows.tolist())
