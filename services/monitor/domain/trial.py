"""What a setting would have raised over closed windows and known labels: the same watches, over the same counts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import log

import numpy as np

from .budget import beside_chosen, of_data, of_performance, of_quality, of_segments
from .course import Course
from .grouped import Grouped, columns_of
from .outcomes.labelled import Task
from .outcomes.loss import LossBlock, LossFinding, LossWatch
from .quality import Quality, Unusable, counted, elsewhere, watched
from .reference import Reference
from .season import Season
from .segments import LEAST_ROWS
from .watch import Finding, Watch
from .windows import Block, Part


@dataclass(frozen=True)
class Setting:
    """What is tried."""

    budget_rows: int
    tolerance: float
    season_s: float | None
    segmented: bool = False
    """There are groups of segments, which have a part of the budget."""
    detectors: tuple[str, ...] = ()
    """That have a part of it, too."""
    quality_alerts: bool = True
    quality_tolerance: float = 0.05
    expected_error: float | None = None

    @property
    def season(self) -> Season:
        """As a watch takes it."""
        return Season(self.season_s or None)

    @property
    def budget(self) -> int:
        """Of columns as wholes, in rows."""
        return of_data(beside_chosen(self.budget_rows, self.detectors), segmented=self.segmented)

    @property
    def budget_of_groups(self) -> int:
        """Of columns within groups of segments, in rows."""
        return of_segments(beside_chosen(self.budget_rows, self.detectors))

    @property
    def budget_of_quality(self) -> int:
        """Of values that cannot be used, in rows."""
        return of_quality(beside_chosen(self.budget_rows, self.detectors))

    @property
    def budget_of_performance(self) -> int:
        """Of errors, in labelled rows."""
        return of_performance(beside_chosen(self.budget_rows, self.detectors))


@dataclass(frozen=True)
class Raised:
    """An alarm or a note, and the end of the window, or the label, that would have brought it."""

    at: datetime
    finding: Finding | Unusable | LossFinding
    segment: str | None = None
    """The groups in which it was, where it was in some."""


@dataclass
class Trial:
    """One setting, shown one closed window after the other. An alarm counts as accepted at once, so that what comes
    after it is seen, too; one of values that cannot be used ends by itself, as it does in use."""

    reference: Reference
    setting: Setting
    grouped: Grouped | None = None
    """Groups of segments that are watched as well."""
    raised: list[Raised] = field(default_factory=list)
    rows: int = 0
    windows: int = 0

    def __post_init__(self) -> None:
        setting = self.setting
        self._wholes = Course(Watch.start(self.reference, setting.season), setting.budget)
        self._some = self.grouped.under(setting.season) if self.grouped else None
        self._groups = Course(
            Watch.start(self._some.reference, setting.season), setting.budget_of_groups
        ) if self._some else None  # fmt: skip
        self._quality = Quality.start(self.reference)
        self._drifting = set[str]()

    @property
    def watch(self) -> Watch:
        """Where that of columns as wholes stands."""
        return self._wholes.watch

    def see(self, start_s: float, end: datetime, blocks: Sequence[Block], part: Part | None = None) -> None:
        """One more window; `part` has its counts by group. Blocks of another baseline than the reference are left
        out."""
        fitting = [block for block in blocks if block.counts.shape == self.reference.counts.shape]
        if not fitting:
            return
        self.windows += 1
        self.rows += sum(block.rows for block in fitting)
        self._wholes.see(start_s, fitting)
        finding, within = self._wholes.judge(self.reference, self.setting.tolerance), self._within(start_s, part)
        where = self._some.where(within.effects) if self._some and within else None
        if finding:
            self.raised.append(Raised(end, finding, where if _alarms(finding) and _alarms(within) else None))
        if within and not _alarms(finding):
            self.raised.append(Raised(end, within, where))
        if _alarms(finding):
            self._wholes.watch = self._wholes.watch.accepted()
        if self._groups and (_alarms(finding) or _alarms(within)):
            self._groups.watch = self._groups.watch.accepted(LEAST_ROWS)
        if part and self.setting.quality_alerts:
            alarms = [each for each in (finding, within) if each and _alarms(each)]
            self._see_values(start_s, end, fitting, part, alarms)

    def _see_values(
        self, start_s: float, end: datetime, blocks: Sequence[Block], part: Part, alarms: Sequence[Finding]
    ) -> None:
        """Whether they can be used. Of a column whose drift is told, that alarm tells it; it is accepted once it is
        proven."""
        tracks, budget, before = self.reference.tracks, self.setting.budget_of_quality, self._quality
        now = counted(tracks, np.sum([block.counts for block in blocks], axis=0), part.traffic.ids)
        drifting = self._drifting | columns_of(effect.name for alarm in alarms for effect in alarm.effects)
        seen, there = before.observe(now, start_s, self.setting.quality_tolerance), elsewhere(tracks, drifting)
        judged = seen.judge(budget, there)
        if found := judged.found(before, tracks):
            self.raised.append(Raised(end, found))
        proven = (there & (seen.told | seen.sure(budget))).any()
        self._quality = seen.accepted(budget) if proven else judged
        going = there & (self._quality.streak > 0)
        self._drifting = {what.column for what, on in zip(watched(tracks), going, strict=True) if on and what.column}

    def _within(self, start_s: float, part: Part | None) -> Finding | None:
        block = self._some.block(part, self.setting.season) if self._some and part else None
        if not (self._some and self._groups and block):
            return None
        self._groups.see(start_s, [block])
        return self._groups.judge(self._some.reference, self.setting.tolerance)


@dataclass
class TrialOfLabels:
    """The same setting, shown the labels of the version in the order in which they came."""

    task: Task
    setting: Setting
    raised: list[Raised] = field(default_factory=list)
    rows: int = 0

    def __post_init__(self) -> None:
        self._watch = LossWatch(self.task)

    def see(self, block: LossBlock, at: datetime) -> None:
        """One more block, the last of which was observed `at`."""
        setting = self.setting
        self.rows += block.rows
        seen = self._watch.observe(block, log(setting.budget_of_performance), setting.expected_error)
        self._watch, finding = seen.judge(setting.tolerance, setting.expected_error)
        if finding:
            self.raised.append(Raised(at, finding))
        if finding and finding.kind == "alarm":
            self._watch = self._watch.accepted()


def _alarms(finding: Finding | None) -> bool:
    return finding is not None and finding.kind == "alarm"
