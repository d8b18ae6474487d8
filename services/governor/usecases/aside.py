"""Rows whose turn failed are put aside for a while, and hold up no other."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.governor.domain.delivery import pause

_FIRST_S = 5.0
_GRACE_S = 60.0
"""Its turn came long ago and it did not fail again: it is done, perhaps by somebody else."""


@dataclass
class _Kept:
    times: int
    until: float
    reason: str = ""


class Aside:
    """By key, what failed: tried again after 5, 10 … 300 s. It lies in memory: another process finds out by itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: dict[str, _Kept] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def keys(self) -> list[str]:
        """Those whose time has not come again."""
        return [key for key, kept in self._rows.items() if kept.until > self._clock()]

    def begin(self, key: str) -> None:
        """It counts as failed until `done`."""
        times = self._rows[key].times + 1 if key in self._rows else 1
        self._rows[key] = _Kept(times, self._clock() + pause(times, _FIRST_S).total_seconds())

    def done(self, key: str) -> None:
        """It went well."""
        self._rows.pop(key, None)

    def failed(self, key: str, reason: str) -> None:
        """Why it did not."""
        if key in self._rows:
            self._rows[key].reason = reason

    def reasons(self) -> list[str]:
        """Why something lies aside, each once."""
        gone = self._clock() - _GRACE_S
        self._rows = {key: kept for key, kept in self._rows.items() if kept.until > gone}
        return list(dict.fromkeys(kept.reason for kept in self._rows.values() if kept.reason))

    def clear(self) -> None:
        """Nothing is left to do."""
        self._rows.clear()
