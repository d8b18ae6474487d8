"""When a server that fails is asked again, and when not at all. Pure: the time is passed in."""

from collections import deque
from typing import Literal

State = Literal["closed", "open", "half-open"]

WINDOW, LEAST_FAILURES, SHARE = 20, 5, 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
_FIRST_TOKENS, _MOST_TOKENS = 2.0, 10.0


class Breaker:
    """A circuit breaker (Nygard, Release It!).

    *Closed*: calls pass. It opens when of the last 20 calls 5 or more failed and they are half or more. *Open*: none
    passes for 5 s. Then *half-open*: one passes as a trial; its success closes the circuit, its failure opens it again
    for twice as long, at most 60 s. A call that passed before the circuit opened, or before a trial, says nothing of
    the server as it is since then: how it ends is not heard.
    """

    def __init__(self) -> None:
        self._failed: deque[bool] = deque(maxlen=WINDOW)
        self._pause_s = FIRST_PAUSE_S
        self._until: float | None = None
        self._trial = False
        self._epoch = 1
        """Another one from each opening and each trial on."""

    def state(self, now: float) -> State:
        """Where it stands."""
        if self._until is None:
            return "closed"
        return "open" if self._trial or now < self._until else "half-open"

    def left_s(self, now: float) -> float:
        """How long it stays open; 0 where a call may pass."""
        return max(0.0, self._until - now) if self._until is not None else 0.0

    def enter(self, now: float) -> int | None:
        """What a call that may pass must say `succeeded`, `failed` or `left` with; None: it may not."""
        match self.state(now):
            case "open":
                return None
            case "half-open":
                self._trial = True
                self._epoch += 1
            case "closed":
                pass
        return self._epoch

    def succeeded(self, epoch: int) -> None:
        """A call was answered, whatever the answer."""
        if epoch != self._epoch:
            return
        if self._trial:
            self._failed.clear()
        self._failed.append(False)
        self._pause_s, self._until, self._trial = FIRST_PAUSE_S, None, False

    def failed(self, epoch: int, now: float) -> None:
        """A call was not answered, or the server said that it cannot."""
        if epoch != self._epoch:
            return
        self._failed.append(True)
        failures = sum(self._failed)
        if self._trial:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        elif failures < LEAST_FAILURES or failures < SHARE * len(self._failed):
            return
        self._until, self._trial = now + self._pause_s, False
        self._epoch += 1

    def left(self, epoch: int) -> None:
        """The caller went away: it is not known how the call ended."""
        if epoch == self._epoch:
            self._trial = False


class RetryBudget:
    """Repetitions are a share of calls, so that a server in trouble gets little more to do (Finagle's retry budget)."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._tokens = _FIRST_TOKENS if ratio else 0.0

    def called(self) -> None:
        """Every call earns its share of a repetition; ten are kept at most."""
        self._tokens = min(self._tokens + self._ratio, _MOST_TOKENS)

    def take(self) -> bool:
        """Whether one may be repeated."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
