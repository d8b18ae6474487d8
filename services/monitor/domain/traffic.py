"""Whether a window's rows came as they use to: how many, how new, and none of them twice under one request id."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import nsmallest
from math import inf, sqrt
from typing import Any

import numpy as np

_SAMPLE = 512
_LEAST_WINDOWS = 10
_Z = 3.3
"""Of a normal distribution: one window in a thousand lies outside."""
_POISSON_SD = 0.5
"""Of the root of a count, whatever its mean."""
_MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Ids:
    """Request ids of a window: how many inferences named one, and how often each of a sample was named.

    The sample is of the ids with the smallest hashes (bottom-k, Cohen 1997): whether an id is in it does not depend on
    where and in which order it was seen, so any split gives the same counts. It holds all ids up to 512.
    """

    named: int = 0
    sample: Mapping[int, int] = field(default_factory=dict[int, int])

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Ids":
        """Of the ids that were named."""
        seen = Counter(int.from_bytes(blake2b(id.encode(), digest_size=7).digest()) for id in ids)
        return cls(sum(seen.values()), _smallest(seen))

    def merge(self, other: "Ids") -> "Ids":
        """Those of both."""
        if not self.named or not other.named:
            return self if self.named else other
        return Ids(self.named + other.named, _smallest(Counter(self.sample) + Counter(other.sample)))

    @property
    def repeated(self) -> int:
        """Inferences whose id another one had named before; an estimate from the sample where there are more ids."""
        counted = sum(self.sample.values())
        return round((counted - len(self.sample)) / counted * self.named) if counted else 0


def _smallest(seen: Mapping[int, int]) -> dict[int, int]:
    return {each: seen[each] for each in nsmallest(_SAMPLE, seen)}


@dataclass(frozen=True)
class Traffic:
    """What a part of a window tells of how its rows came."""

    newest_s: float = -inf
    """Event time of the newest row, seconds since the epoch."""
    ids: Ids = field(default_factory=Ids)

    def merge(self, other: "Traffic") -> "Traffic":
        """Of the rows of both."""
        return Traffic(max(self.newest_s, other.newest_s), self.ids.merge(other.ids))

    def to_json(self) -> list[Any]:
        """As it is stored."""
        newest = None if self.newest_s == -inf else self.newest_s
        return [newest, self.ids.named, list(self.ids.sample.items())]

    @classmethod
    def from_json(cls, data: Sequence[Any] | None) -> "Traffic":
        """What `to_json` wrote; of a part that was stored before there was such a thing, nothing."""
        if data is None:
            return cls()
        newest, named, sample = data
        return cls(-inf if newest is None else newest, Ids(named, dict(sample)))


def expected_rows(before: Sequence[int]) -> tuple[float, float] | None:
    """Between which numbers of rows a window lies, 999 times in 1,000, by those of earlier windows; None of too few.

    Roots of counts have about one spread whatever their mean (Anscombe 1948). Middle and spread are the median and the
    median distance from it, so that a few odd windows do not matter; the spread is that of a Poisson stream at least.
    """
    if len(before) < _LEAST_WINDOWS:
        return None
    roots = np.sqrt(np.array(before) + 0.375)
    middle = float(np.median(roots))
    spread = max(_POISSON_SD, _MAD_TO_SD * float(np.median(np.abs(roots - middle)))) * sqrt(1 + 1.6 / len(before))
    low, high = max(0.0, middle - _Z * spread), middle + _Z * spread
    return max(0.0, low**2 - 0.375), high**2 - 0.375
