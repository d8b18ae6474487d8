"""What waits to be explained, bounded in windows and in cells; endpoints take turns."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from contracts import AttributionsRequested


@dataclass(frozen=True)
class Bounds:
    """Of what waits; a cell is one value of a row."""

    windows: int
    cells: int

    def hold(self, events: Iterable[AttributionsRequested]) -> bool:
        """Whether so many may wait."""
        sizes = [cells(event) for event in events]
        return len(sizes) <= self.windows and sum(sizes) <= self.cells


EACH, ALL = Bounds(30, 100_000), Bounds(1_000, 1_000_000)
"""Of one endpoint, and of all. The largest sample of a window has 20,000 cells."""


def cells(event: AttributionsRequested) -> int:
    """Values in its rows."""
    return sum(map(len, event.rows))


class Waiting:
    """Of an endpoint the older windows go first."""

    def __init__(self, each: Bounds = EACH, all: Bounds = ALL) -> None:
        self._each, self._all = each, all
        self._of: OrderedDict[str, deque[tuple[AttributionsRequested, str]]] = OrderedDict()
        self._windows = self._cells = 0

    def put(self, event: AttributionsRequested, unit: str) -> list[AttributionsRequested]:
        """Let it wait; answers what is left out for it: older windows of its endpoint, or itself without such."""
        of = self._of.setdefault(event.endpoint, deque())
        of.append((event, unit))
        self._count(event, 1)
        dropped: list[AttributionsRequested] = []
        while of and not self._fit(of):
            dropped.append(of.popleft()[0])
            self._count(dropped[-1], -1)
        if not of:
            del self._of[event.endpoint]
        return dropped

    def take(self) -> tuple[AttributionsRequested, str] | None:
        """The oldest of the endpoint whose turn it is, with its unit."""
        if not self._of:
            return None
        name, of = self._of.popitem(last=False)
        taken = of.popleft()
        self._count(taken[0], -1)
        if of:
            self._of[name] = of
        return taken

    def _fit(self, of: deque[tuple[AttributionsRequested, str]]) -> bool:
        within = self._windows <= self._all.windows and self._cells <= self._all.cells
        return within and self._each.hold(event for event, _ in of)

    def _count(self, event: AttributionsRequested, sign: int) -> None:
        self._windows += sign
        self._cells += sign * cells(event)
