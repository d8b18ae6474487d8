"""A few at a time: what costs memory or disk while it comes in."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Busy


class Turns:
    """At most `most` at once, of one caller at most `each`."""

    def __init__(self, what: str, most: int, each: int) -> None:
        self._what, self._most, self._each = what, most, each
        self._taken: Counter[str] = Counter()

    @contextmanager
    def turn(self, caller: str) -> Iterator[None]:
        """Be one of them while it lasts. Raises Busy."""
        if self._taken.total() >= self._most:
            raise Busy(f"too many {self._what} come in at once; try again")
        if self._taken[caller] >= self._each:
            raise Busy(f"{self._taken[caller]} {self._what} of {caller} come in already; wait for one of them")
        self._taken[caller] += 1
        try:
            yield
        finally:
            self._taken[caller] -= 1
            self._taken += Counter()  # drops those who have none
