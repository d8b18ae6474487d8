"""What people ask about outcomes: performance and fairness, by window and over all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby

from contracts import ColumnProfile, MonitorSettings
from services.kit.db import Database
from services.kit.groups import class_name
from services.kit.ids import now

from .. import store
from ..domain.outcomes.estimate import Estimate
from ..domain.outcomes.fairness import Measure, fairness
from ..domain.outcomes.labelled import Task, in_order
from ..domain.outcomes.labels import label_shift
from ..domain.outcomes.performance import Statistic, business, classes_of, performance
from ..domain.outcomes.tally import Tally
from ..store import Endpoint, FindingRow, estimates, losses
from ..store import outcomes as counted
from ..store.outcomes import Counts, Span
from .estimating import Estimates
from .versions import Versions, Watched

_DAYS = 30


@dataclass(frozen=True)
class Figures:
    """What is known of the decisions of one variant in a span of time."""

    version: int
    variant: str
    task: Task
    start: datetime
    end: datetime
    decided: int | None
    """Rows decided, as closed windows hold them; None where those are forgotten, or hold those of another variant of
    the version, too: a canary's that became the champion, and none of a shadow's."""
    outcomes: int
    labelled: int
    statistics: Sequence[Statistic]
    groups: Mapping[str, tuple[int, Sequence[Statistic]]]
    """By group of the segment that was asked for: rows labelled, and the figures."""
    undecided: int = 0
    """Of the rows with an outcome those whose decision is not known."""
    estimated: Estimate | None = None
    """Of all decisions that have a score or are numbers, labelled or not."""


@dataclass(frozen=True)
class Performance:
    """How right an endpoint's decisions were."""

    endpoint: Endpoint
    overall: Sequence[Figures]
    """By version, the newest first."""
    windows: Sequence[Figures]
    """The newest first."""
    findings: Sequence[FindingRow]
    """Alarms and notes about performance, the newest first."""
    statistic: float
    """The logarithm of the evidence that the serving version errs more than before."""
    segments: Sequence[str]
    """Segments and protected attributes, by whose groups figures may be asked for."""


@dataclass(frozen=True)
class Attribute:
    """How one variant treats the groups of one protected attribute."""

    version: int
    variant: str
    attribute: str
    favourable: str | None
    labelled: int
    measures: Sequence[Measure]
    why: str | None
    """Why nothing is told, where nothing is."""


Variant = tuple[int, str]


class Outcomes:
    """Reads under the caller's units."""

    def __init__(self, db: Database, versions: Versions) -> None:
        self._db, self._versions = db, versions

    async def performance(
        self, name: str, since: datetime | None, until: datetime | None, segment: str | None, limit: int
    ) -> Performance:
        """Of the decisions of a span of time, by default of 30 days. Raises NotFound."""
        since, until = _span_of_time(since, until)
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
            parts = await counted.windows(session, name, since, until)
            grouped = await counted.groups(session, name, since, until, segment) if segment is not None else {}
            findings = await store.findings(session, name, 50, "performance")
            watch = await losses.watch(session, name, endpoint.version)
            length = endpoint.settings.outcome_window_s
            decided = await counted.decided(session, name, since, until, length)
            said = await estimates.decided(session, name, since, until)
            learned = await estimates.learned(session, name)
        known = await self._known(name, {span.version for span in (*said, *(s for s, _ in parts))})
        windows = _with_unlabelled([(span, _merged(each)) for span, each in _same_span(parts)], said, known)
        expected = Estimates.of(said, learned, known, ((span, each.tally) for span, each in parts))
        whole = _by_variant(windows)
        classes = {variant: classes_of(counts.tally) for variant, (_, counts) in whole.items()}
        rows_of = _Decided(decided, [span for span, _ in windows])

        def told(span: Span, counts: Counts, decided: int | None, groups: Mapping[str, Tally]) -> Figures:
            of = classes[span.version, span.variant]
            return _figures(span, counts, of, decided, groups, endpoint.settings, known[span.version].truth)

        def groups_of(variant: Variant) -> Mapping[str, Tally]:
            return grouped.get(variant, {}).get(segment or "", {})

        overall = [
            replace(
                told(span, counts, rows_of.whole(span), groups_of(variant)),
                estimated=expected.whole(*variant),
            )
            for variant, (span, counts) in whole.items()
        ]
        shown = [
            replace(told(span, counts, rows_of.window(span), {}), estimated=expected.window(span))
            for span, counts in windows[:limit]
        ]
        evidence = watch.statistic if watch else 0.0
        return Performance(endpoint, overall, shown, findings, evidence, _grouped(known.values()))

    async def fairness(self, name: str, since: datetime | None, until: datetime | None) -> list[Attribute]:
        """By version, the newest first, and protected attribute, of 30 days unless said otherwise. Raises NotFound."""
        since, until = _span_of_time(since, until)
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
            parts = await counted.windows(session, name, since, until)
            grouped = await counted.groups(session, name, since, until)
        whole = _by_variant([(span, _merged(each)) for span, each in _same_span(parts)])
        known = await self._known(name, {version for version, _ in whole})
        return [
            _attribute(span, counts, attribute, grouped[variant][attribute], endpoint.settings)
            for variant, (span, counts) in whole.items()
            for attribute in sorted(grouped.get(variant, {}).keys() - known[span.version].meaning.segments)
        ]

    async def _known(self, name: str, versions: Iterable[int]) -> dict[int, Watched]:
        return {each: await self._versions.find(name, each) for each in versions}


def _grouped(versions: Iterable[Watched]) -> list[str]:
    """Segments first, then protected attributes."""
    meanings = [each.meaning for each in versions]
    grouped = {segment: segment not in each.segments for each in meanings for segment in each.groupings}
    return sorted(grouped, key=lambda segment: (grouped[segment], segment))


def favourable_of(settings: MonitorSettings, task: Task, classes: Sequence[str]) -> str | None:
    """The class that people want: as it is declared, else the second one of two."""
    if settings.favourable is not None:
        return class_name(settings.favourable)
    return classes[1] if task == "binary" and len(classes) == 2 else None


def _attribute(
    span: Span, counts: Counts, attribute: str, groups: Mapping[str, Tally], settings: MonitorSettings
) -> Attribute:
    labelled = sum(tally.labelled for tally in groups.values())
    favourable = favourable_of(settings, counts.task, classes_of(counts.tally))
    why = None
    if counts.task == "regression":
        why = "a number is predicted: compare the errors of the groups in /performance?segment="
    elif favourable is None:
        why = "which class is favourable is not declared, and there are not two"
    elif not all(tally.tells(favourable) for tally in groups.values()):
        why = f"the favourable class {favourable} is not told apart from others"
    measures = fairness(groups, favourable) if favourable and not why else []
    return Attribute(span.version, span.variant, attribute, favourable, labelled, measures, why)


class _Decided:
    """Rows of closed windows, which do not tell variants apart: those of one variant where there was no other one."""

    def __init__(self, rows: Mapping[tuple[int, float], int], spans: Sequence[Span]) -> None:
        self._rows = rows
        self._variants: dict[int | tuple[int, float], set[str]] = {}
        for span in spans:
            for where in (span.version, _place(span)):
                self._variants.setdefault(where, set()).add(span.variant)

    def window(self, span: Span) -> int | None:
        return self._rows.get(_place(span)) if len(self._variants[_place(span)]) == 1 else None

    def whole(self, span: Span) -> int | None:
        """Of all windows of a version's variant."""
        rows = [rows for (version, _), rows in self._rows.items() if version == span.version]
        return sum(rows) if rows and len(self._variants[span.version]) == 1 else None


def _span_of_time(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    until = until or now() + timedelta(days=1)
    return since or until - timedelta(days=_DAYS + 1), until


def _place(span: Span) -> tuple[int, float]:
    return span.version, span.start.timestamp()


def _same_span(parts: Iterable[tuple[Span, Counts]]) -> Iterable[tuple[Span, list[Counts]]]:
    for span, each in groupby(parts, key=lambda part: part[0]):
        yield span, [counts for _, counts in each]


def _with_unlabelled(
    windows: Sequence[tuple[Span, Counts]], said: Iterable[Span], known: Mapping[int, Watched]
) -> list[tuple[Span, Counts]]:  # fmt: skip
    """Those that have no outcome yet among them, the newest first."""
    found = {span: Counts(known[span.version].meaning.task, Tally(), {}) for span in said} | dict(windows)
    return sorted(found.items(), key=lambda w: (-w[0].start.timestamp(), w[0].end, -w[0].version, w[0].variant))


def _merged(parts: Sequence[Counts]) -> Counts:
    tally = Tally()
    for part in parts:
        tally.merge(part.tally)
    return Counts(parts[0].task, tally, {})


def _by_variant(windows: Sequence[tuple[Span, Counts]]) -> dict[Variant, tuple[Span, Counts]]:
    """All windows of each variant as one; the newest version first."""
    found: dict[Variant, list[tuple[Span, Counts]]] = {}
    for span, counts in windows:
        found.setdefault((span.version, span.variant), []).append((span, counts))
    whole: dict[Variant, tuple[Span, Counts]] = {}
    for variant in sorted(found, key=lambda v: (-v[0], v[1])):
        spans = [span for span, _ in found[variant]]
        first = spans[0]
        start, end = min(span.start for span in spans), max(span.end for span in spans)
        all_of_it = Span(first.endpoint, first.version, first.variant, first.unit, start, end)
        whole[variant] = all_of_it, _merged([counts for _, counts in found[variant]])
    return whole


def _figures(
    span: Span, counts: Counts, classes: Sequence[str], decided: int | None, groups: Mapping[str, Tally],
    settings: MonitorSettings, truth: ColumnProfile | None,
) -> Figures:  # fmt: skip
    favourable = favourable_of(settings, counts.task, classes)

    if not counts.tally.rows:
        return Figures(span.version, span.variant, counts.task, span.start, span.end, decided, 0, 0, [], {})

    def all_of(tally: Tally) -> list[Statistic]:
        return performance(tally, counts.task, classes) + business(
            tally, settings.value_matrix, favourable, settings.kpis
        )

    told = {name: (groups[name].labelled, all_of(groups[name])) for name in in_order(groups)}
    return Figures(
        span.version, span.variant, counts.task, span.start, span.end, decided, counts.tally.rows,
        counts.tally.labelled, [*all_of(counts.tally), label_shift(counts.tally, counts.task, truth)], told,
        counts.tally.undecided,
    )  # fmt: skip
