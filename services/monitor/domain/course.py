"""A watch that is shown one window after the other, with the blocks in which a change may have begun."""

from collections import deque
from collections.abc import Sequence

from .reference import Reference
from .watch import Finding, Watch
from .windows import Block

REMEMBERED = 500
"""Blocks before a change showed that may hold its beginning."""


class Course:
    """Where a watch stands after what it was shown."""

    def __init__(self, watch: Watch, budget_rows: int, *, remembered: int | None = REMEMBERED) -> None:
        """`remembered`: so many blocks; None: all of them."""
        self.watch = watch
        self._budget_rows = budget_rows
        self._kept: deque[Block] = deque(maxlen=remembered)

    def see(self, start_s: float, blocks: Sequence[Block]) -> None:
        """One more window."""
        before, watch = self.watch, self.watch.observe(blocks, start_s, self._budget_rows)
        if before.phase == "watching" and watch.phase == "doubting" and watch.since_s is not None:
            since_s = watch.since_s
            watch = watch.remember([block for block in self._kept if block.start_s >= since_s])
        self.watch = watch
        self._kept.extend(blocks)

    def judge(self, reference: Reference, tolerance: float) -> Finding | None:
        """`Watch.judge` of where it stands."""
        self.watch, finding = self.watch.judge(reference, tolerance)
        return finding
