"""Folds outcomes into windows of their decisions; counts, what was counted of each row, and offset commit together."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

from pydantic import ValidationError

from contracts import KPI_FACTS, OutcomeObserved
from services.kit.burial import Burial
from services.kit.cel import CelError, evaluate
from services.kit.db import Tx
from services.kit.errors import Invalid
from services.kit.ids import now
from services.kit.stream import PartitionBatch, Record
from services.kit.strict import refused

from .. import metrics
from ..domain.comparison.verdicts import Verdicts
from ..domain.outcomes.labelled import Labelled, Meaning, Task, kpi_key, window_of
from ..domain.outcomes.learned import Learned, placed
from ..domain.outcomes.loss import blocks_of, loss_of
from ..domain.outcomes.sums import LARGEST
from ..domain.outcomes.tally import Tally, add_to_groups
from ..domain.windows import moment, window_start
from ..settings import MonitorSettings
from ..store import comparison, estimates, losses, slices
from ..store import outcomes as store
from ..store.comparison import Pairing
from ..store.estimates import WEEK_S, Lesson
from ..store.outcomes import Counts, Place, Remembered, Span
from .versions import Versions

_DECIDED = frozenset({"prediction", "score", "segments"})
"""What is read from the payload."""

Letters = list[tuple[Record, BaseException | str]]


@dataclass(frozen=True)
class _Told:
    """An outcome with where it is to be counted."""

    event: OutcomeObserved
    span: Span
    meaning: Meaning
    row: Labelled


@dataclass
class _Change:
    """What a batch changes in a window: rows that leave it, rows that come."""

    meaning: Meaning
    gone: list[Labelled] = field(default_factory=list[Labelled])
    come: list[tuple[Place, Labelled]] = field(default_factory=list[tuple[Place, Labelled]])


class Observing:
    """The handler of `outcome.observed`. The recorder joined outcome and decision: nothing is joined here."""

    def __init__(self, settings: MonitorSettings, versions: Versions, burial: Burial) -> None:
        self._kept = timedelta(days=settings.outcomes_kept_days)
        self._versions = versions
        self._burial = burial

    async def fold(self, tx: Tx, batch: PartitionBatch) -> None:
        """Count a batch's outcomes; a repeat changes nothing, a revised one is counted in place of the earlier one."""
        letters: Letters = []
        told: list[_Told] = []
        oldest = now() - self._kept
        for record, event in _events(batch, self._burial, letters):
            if event.received_at < oldest:
                tx.then.append(metrics.OUTCOMES.labels("too old").inc)
            elif each := await self._told(record, event, letters):
                told.append(each)
        before = await store.remembered(tx.session, list({_place(each.event) for each in told}))
        after, changes = self._changes(told, before)
        if changes:
            await self._count(tx, batch.partition, changes, after)
            await self._slice(tx, batch.partition, changes, after)
            await self._compare(tx, batch.partition, changes, after)
            await store.remember(tx.session, after)
            await self._show(tx, told, before, after)
        tx.then += [partial(metrics.OUTCOMES.labels(what).inc, count) for what, count in
                    _summary(told, before, after).items()]  # fmt: skip
        await self._burial.bury(batch, letters)

    async def _told(self, record: Record, event: OutcomeObserved, letters: Letters) -> _Told | None:
        meaning = (await self._versions.find(event.endpoint, event.version)).meaning
        settings = self._versions.settings(event.endpoint)
        start, end = window_of(event, settings.outcome_window_s)
        try:
            row = meaning.read(event, _kpis(event, settings.kpis))
        except ValueError as error:
            letters.append((record, Invalid(f"label: {error}", "label")))
            return None
        span = Span(event.endpoint, event.version, event.variant, _unit(record), moment(start), moment(end))
        return _Told(event, span, meaning, placed(row, meaning.task, meaning.cuts))

    def _changes(
        self, told: list[_Told], before: Mapping[Place, Remembered]
    ) -> tuple[dict[Place, Remembered], dict[Span, _Change]]:
        """The last word of each row, and what that changes in which windows."""
        last: dict[Place, _Told] = {}
        for each in told:
            place = _place(each.event)
            known = last[place].event.observed_at if place in last else None
            if known is None and place in before:
                known = before[place].observed_at
            if known is None or each.event.observed_at >= known:
                last[place] = each
        after: dict[Place, Remembered] = {}
        changes: dict[Span, _Change] = {}
        for place, each in last.items():
            old = before.get(place)
            if old and old.span == each.span and _same(old.row, each.row):
                continue
            if old:
                changes.setdefault(old.span, _Change(each.meaning)).gone.append(old.row)
            changes.setdefault(each.span, _Change(each.meaning)).come.append((place, each.row))
            shadow = each.event.shadow_of is not None
            after[place] = Remembered(each.span, each.event.observed_at, each.row, shadow)
        return after, changes

    async def _show(
        self, tx: Tx, told: list[_Told], before: Mapping[Place, Remembered], after: Mapping[Place, Remembered]
    ) -> None:
        """First labels, in the order in which they came, to the test of whether a version became worse. Of what shadows
        would have decided they may come when the version is the champion already: nobody was answered so."""
        shown: dict[tuple[str, int, str], list[_Told]] = {}
        answered = [each for each in told if each.event.shadow_of is None]
        for place, each in {_place(each.event): each for each in answered}.items():
            new = place not in before or before[place].row.label is None
            if new and place in after and after[place].row.label is not None:
                shown.setdefault((each.span.endpoint, each.span.version, each.span.unit), []).append(each)
        for (endpoint, version, unit), some in shown.items():
            known = [(each.event.received_at.timestamp(), loss) for each in some
                     if (loss := loss_of(each.row)) is not None]  # fmt: skip
            await losses.add(tx.session, endpoint, version, unit, some[0].meaning.task, blocks_of(known))

    async def _count(
        self, tx: Tx, partition: int, changes: Mapping[Span, _Change], after: dict[Place, Remembered]
    ) -> None:
        found = await store.counts(tx.session, changes, partition)
        learned = await estimates.lessons(tx.session, {_lesson(span) for span in changes}, partition)
        for span, change in changes.items():
            classes = change.meaning.classes
            taught = learned.setdefault(_lesson(span), Learned())
            counts = found.setdefault(span, Counts(change.meaning.task, Tally.of(classes), {}))
            counts.task = change.meaning.task
            for row in change.gone:
                counts.tally.add(row, -1)
                add_to_groups(counts.groups, row, -1)
                taught.add(row, -1)
            for place, row in change.come:
                counted = add_to_groups(counts.groups, row, classes=classes)
                counts.tally.add(counted)
                after[place] = replace(after[place], row=taught.add(counted))
        await store.save(tx.session, found, partition)
        await estimates.save_lessons(tx.session, learned, partition)

    async def _slice(
        self, tx: Tx, partition: int, changes: Mapping[Span, _Change], after: Mapping[Place, Remembered]
    ) -> None:
        """As the rows were counted in their windows: with the groups that these gave them."""
        moves: dict[Span, list[tuple[Labelled, int]]] = {}
        tasks: dict[Span, Task] = {}
        for span, change in changes.items():
            gone = [(row, -1) for row in change.gone]
            come = [(after[place].row, 1) for place, _ in change.come]
            if sliced := [(row, sign) for row, sign in gone + come if row.paired is not None]:
                day = slices.day_of(span)
                moves.setdefault(day, []).extend(sliced)
                tasks[day] = change.meaning.task
        if not moves:
            return
        found = await slices.known(tx.session, moves, partition)
        for day, rows in moves.items():
            known = found.setdefault(day, slices.Sliced(tasks[day]))
            known.task = tasks[day]
            for row, sign in rows:
                known.losses.add(row, sign)
        await slices.save(tx.session, found, partition)

    async def _compare(
        self, tx: Tx, partition: int, changes: Mapping[Span, _Change], after: Mapping[Place, Remembered]
    ) -> None:
        """Rows of shadows with what callers were told of them, which the event says: nothing waits for its other
        half."""
        moves: dict[Pairing, list[tuple[Labelled, Task, int]]] = defaultdict(list)
        for span, change in changes.items():
            gone = [(row, -1) for row in change.gone]
            come = [(after[place].row, 1) for place, _ in change.come]
            for row, sign in gone + come:
                if row.answered is not None:
                    moves[_pairing(span, row.answered[0])].append((row, change.meaning.task, sign))
        if not moves:
            return
        found = await comparison.known(tx.session, Verdicts, moves, partition)
        for pairing, rows in moves.items():
            known = found.setdefault(pairing, Verdicts())
            for row, task, sign in rows:
                known.add(row, task, sign)
        await comparison.save(tx.session, found, partition)


def _events(batch: PartitionBatch, burial: Burial, letters: Letters) -> Iterator[tuple[Record, OutcomeObserved]]:
    for record in batch.records:
        if record.value is None or burial.for_another(record):
            continue
        try:
            event = OutcomeObserved.from_json(record.value)
            _unit(record)
        except ValidationError as error:
            letters.append((record, refused(error.errors(include_url=False, include_input=False), root="the value")))
        except Invalid as reason:
            letters.append((record, reason))
        else:
            yield record, event


def _kpis(event: OutcomeObserved, kpis: Mapping[str, str]) -> dict[str, float | None]:
    """By key, what the expressions say of a row; None where one has no number for it, or asks for what is not known."""
    facts = event.model_dump(mode="json", include=_known_of(event)) if kpis else {}
    found: dict[str, float | None] = {}
    for name, expression in kpis.items():
        key = kpi_key(name, expression)
        try:
            value = evaluate(expression, facts)
        except CelError:
            found[key] = None
            continue
        fit = isinstance(value, bool | int | float) and abs(value) <= LARGEST  # none that is no number, either
        found[key] = float(value) if fit else None
    return found


def _known_of(event: OutcomeObserved) -> set[str]:
    """Where the decision is not known, no expression takes it for another one: it is no fact."""
    if event.prediction is not None:
        return set(KPI_FACTS)
    return {name for name in KPI_FACTS if name not in _DECIDED or getattr(event, name)}


def _unit(record: Record) -> str:
    """Whose decision it was. Raises Invalid."""
    said = next((value for name, value in record.headers if name == "ce_unit"), b"").decode(errors="replace")
    if not said:
        raise Invalid("ce_unit: an outcome belongs to a business unit", "ce_unit")
    return said


def _pairing(span: Span, against: int) -> Pairing:
    return Pairing(span.endpoint, span.version, span.variant, against, span.unit, span.start, span.end)


def _lesson(span: Span) -> Lesson:
    return Lesson(span.endpoint, span.version, span.unit, moment(window_start(span.start.timestamp(), WEEK_S)))


def _place(event: OutcomeObserved) -> Place:
    return event.inference_id, event.row


def _same(before: Labelled, after: Labelled) -> bool:
    """Whether a row would be counted as it is; which groups had no more room is nobody's news."""
    return (before.label, before.value, before.prediction, before.score, before.answered) == (
        after.label, after.value, after.prediction, after.score, after.answered)  # fmt: skip


def _summary(
    told: list[_Told], before: Mapping[Place, Remembered], after: Mapping[Place, Remembered]
) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for place in after:
        counts["revised" if place in before else "counted"] += 1
    counts["repeated"] = len(told) - len(after)
    return counts
