"""How many rows of one model fit a call before its deadline: fewer once a call was too long, more where time allows."""

_ALL = 2**31
_ROOM = 8
"""Twice the rows are tried only where a call took less than this part of what was too long."""


class CallSize:
    """Who has more rows than `rows` asks in several calls."""

    __slots__ = ("_too_long_s", "rows")

    def __init__(self) -> None:
        self.rows = _ALL
        self._too_long_s = 0.0
        """How long the last call had that was ended."""

    def too_long(self, rows: int, had_s: float) -> None:
        """A call of so many rows was ended after so many seconds."""
        self.rows, self._too_long_s = max(1, min(rows, self.rows) // 2), had_s

    def took(self, rows: int, took_s: float) -> None:
        """A call of so many rows was answered after so many seconds. One of few rows says nothing of many."""
        if self.rows < _ALL and 2 * rows > self.rows and took_s * _ROOM < self._too_long_s:
            self.rows *= 2
