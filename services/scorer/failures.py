"""Why a model did not take what it was asked, in this process's log: for whoever owns it, and with nothing of the rows.

The caller is told in general words alone, and a model's own words may hold values of its input: what is logged is the
class of what it raised and the place in its code.
"""

import time
from collections.abc import Callable, Mapping

from services.kit.errors import Refusal
from services.kit.telemetry import get_logger

from .runtimes.errors import ModelFailed

log = get_logger(__name__)

_EVERY_S = 60.0
_MOST_REASONS = 50
_OTHER = "another reason"
_UNFIT = "it answered otherwise than its schema says"


class Failures:
    """Of one version: each reason at once, then once a minute with how often, so that a caller cannot fill a log."""

    def __init__(self, said: Mapping[str, str | int], clock: Callable[[], float] = time.monotonic) -> None:
        """`said`: which version of which model this is, as the log bears it."""
        self._said = said
        self._clock = clock
        self._told: dict[str, float] = {}
        self._times: dict[str, int] = {}

    def noted(self, refusal: Refusal) -> Refusal:
        """A call that was refused, as it was; what is not the model's doing is not told."""
        if isinstance(refusal, ModelFailed):
            self._note(refusal.place or _UNFIT)
        return refusal

    def _note(self, reason: str) -> None:
        if reason not in self._told and len(self._told) >= _MOST_REASONS:
            reason = _OTHER
        self._times[reason] = self._times.get(reason, 0) + 1
        now = self._clock()
        if now - self._told.get(reason, -_EVERY_S) < _EVERY_S:
            return
        self._told[reason] = now
        log.warning("a model did not take its input", **self._said, error=reason, times=self._times.pop(reason))
