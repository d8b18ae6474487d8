"""How many rows of one model the event loop bears in a call: learned, fewer once it was slow, and tried again."""

from collections.abc import Awaitable, Callable

from .runtimes import Arrays

_STRIKES = 8
"""Slow calls in a row, before fewer rows are taken: one may be the operating system's doing."""
_GOOD = 64
"""Calls in the thread without a slow one that show that the event loop would bear them again."""


class InlineBudget:
    """`rows` and `slow_s` are looked at for each request: they are plain attributes."""

    __slots__ = ("_bearable_s", "_good", "_known", "_most", "_strikes", "lowered", "rows", "slow_s")

    def __init__(self, inline_ms: float) -> None:
        self.rows = 0
        """The most that is taken at once; 0: nothing is, or the model sleeps."""
        self.slow_s = 4 * inline_ms / 1000
        """A call that takes longer is a strike."""
        self.lowered = 0
        """How often `rows` was lowered because calls were slow."""
        self._bearable_s = inline_ms / 1000
        self._most: int | None = None
        """What was measured."""
        self._known: int | None = None
        """`rows` of a model that was measured and sleeps."""
        self._strikes = self._good = 0

    async def measure(
        self, timed: Callable[[Arrays], Awaitable[float]], one: Arrays, many: Arrays | None, rows: int, most: int
    ) -> int:
        """How many rows can be borne, `most` at most. `timed` calls the model with inputs and says how long that took,
        `one` is a row of them, `many` are `rows`, or None where a model's rows cannot be joined."""
        first = await _least(timed, one)
        if first > self._bearable_s or many is None:
            return 1 if first <= self._bearable_s else 0
        each = max(await _least(timed, many) - first, 0.0) / (rows - 1)
        return int((self._bearable_s - first) / each) + 1 if each > 0 else most

    def learn(self, rows: int) -> None:
        """What was measured."""
        self.rows = self._most = rows

    def sleeps(self) -> None:
        """Nothing is taken at once until `wakes`."""
        if self._most is not None and self._known is None:
            self._known, self.rows = self.rows, 0

    def wakes(self) -> bool:
        """As before it slept. Answers whether that was known: else it must be measured."""
        if self._most is None:
            return False
        self.rows, self._known = self._known or 0, None
        return True

    def strike(self, rows: int) -> None:
        """A call on the event loop was slow."""
        self._strikes += 1
        if self._strikes >= _STRIKES:
            self.rows = min(rows, self.rows) // 2
            self.lowered += 1
            self._strikes = self._good = 0

    def fair(self) -> None:
        """A call on the event loop was not slow."""
        self._strikes = 0

    def elsewhere(self, took_s: float, rows: int) -> None:
        """A call in the thread took so long: what the loop did not bear for a while it may bear again."""
        if self._most is None or self.rows >= self._most or rows <= self.rows:
            return
        more = min(max(1, 2 * self.rows), self._most)
        if took_s <= self._bearable_s:
            self._good += 1
        elif took_s > self.slow_s and rows <= more:
            self._good = 0
        if self._good >= _GOOD:
            self.rows, self._good = more, 0


async def _least(timed: Callable[[Arrays], Awaitable[float]], inputs: Arrays) -> float:
    """The shortest of a few calls: longer ones were somebody else's doing."""
    return min([await timed(inputs) for _ in range(3)])
