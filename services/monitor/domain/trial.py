"""What a setting would have raised over windows that are closed: the same watches, over the same counts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .budget import beside_chosen, of_data, of_segments
from .course import Course
from .grouped import Grouped
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


@dataclass(frozen=True)
class Raised:
    """An alarm or a note, and the end of the window that would have brought it."""

    at: datetime
    finding: Finding
    segment: str | None = None
    """The groups in which it was, where it was in some."""


@dataclass
class Trial:
    """One setting, shown one closed window after the other. An alarm counts as accepted at once, so that what comes
    after it is seen, too."""

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

    def _within(self, start_s: float, part: Part | None) -> Finding | None:
        block = self._some.block(part, self.setting.season) if self._some and part else None
        if not (self._some and self._groups and block):
            return None
        self._groups.see(start_s, [block])
        return self._groups.judge(self._some.reference, self.setting.tolerance)


def _alarms(finding: Finding | None) -> bool:
    return finding is not None and finding.kind == "alarm"
