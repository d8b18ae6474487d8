"""What a setting would have raised over windows that are closed: the same watch, over the same counts."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .budget import beside_chosen, of_data
from .reference import Reference
from .season import Season
from .watch import Finding, Watch
from .windows import Block

_REMEMBERED = 500
"""Windows before a change showed that may hold its beginning."""


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


@dataclass(frozen=True)
class Raised:
    """An alarm or a note, and the end of the window that would have brought it."""

    at: datetime
    finding: Finding


@dataclass
class Trial:
    """One setting, shown one closed window after the other. An alarm counts as accepted at once, so that what comes
    after it is seen, too."""

    reference: Reference
    setting: Setting
    raised: list[Raised] = field(default_factory=list)
    rows: int = 0
    windows: int = 0

    def __post_init__(self) -> None:
        self._watch = Watch.start(self.reference, self.setting.season)
        self._kept: deque[Block] = deque(maxlen=_REMEMBERED)

    @property
    def watch(self) -> Watch:
        """Where it stands."""
        return self._watch

    def see(self, start_s: float, end: datetime, blocks: Sequence[Block]) -> None:
        """One more window. Blocks of another baseline than the reference are left out."""
        fitting = [block for block in blocks if block.counts.shape == self.reference.counts.shape]
        if not fitting:
            return
        self.windows += 1
        self.rows += sum(block.rows for block in fitting)
        before = self._watch
        watch = before.observe(fitting, start_s, self.setting.budget)
        if before.phase == "watching" and watch.phase == "doubting" and watch.since_s is not None:
            watch = watch.remember(self._since(watch.since_s))
        self._watch, finding = watch.judge(self.reference, self.setting.tolerance)
        self._kept.extend(fitting)
        if finding:
            self.raised.append(Raised(end, finding))
            if finding.kind == "alarm":
                self._watch = self._watch.accepted()

    def _since(self, since_s: float) -> list[Block]:
        return [block for block in self._kept if block.start_s >= since_s]
