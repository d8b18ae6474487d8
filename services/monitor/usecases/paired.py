"""What people ask about a version beside the champion: would it have decided differently, where, and was it better?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.kit.db import Database
from services.kit.ids import now

from .. import store
from ..domain.comparison.answers import Answers
from ..domain.comparison.verdicts import Verdicts
from ..store import comparison
from ..store import outcomes as counted
from ..store.comparison import Pairing

_DAYS = 30

Pair = tuple[int, str, int]
"""Version, variant, and the version that callers were told of."""


@dataclass
class Compared:
    """Two versions on the same requests in a span of time."""

    version: int
    variant: str
    against: int
    start: datetime
    end: datetime
    answers: Answers = field(default_factory=Answers)
    verdicts: Verdicts = field(default_factory=Verdicts)
    answered: int | None = None
    """Rows that callers were told of by the other version in the windows that there is something of; None where closed
    windows are forgotten."""

    def count(self, pairing: Pairing, counts: Answers | Verdicts) -> None:
        """A window of one partition."""
        self.start, self.end = min(self.start, pairing.start), max(self.end, pairing.end)
        if isinstance(counts, Answers):
            self.answers.merge(counts)
        else:
            self.verdicts.merge(counts)


@dataclass
class Comparison:
    """One pair of versions: all of it, and by window."""

    whole: Compared
    windows: Sequence[Compared]
    """The newest first."""


class Comparisons:
    """Reads under the caller's units."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def of(
        self, name: str, since: datetime | None, until: datetime | None
    ) -> tuple[store.Endpoint, list[Comparison]]:  # fmt: skip
        """Of the decisions of a span of time, 30 days unless said otherwise: by pair, the newest version first.

        Raises NotFound.
        """
        until = until or now() + timedelta(days=1)
        since = since or until - timedelta(days=_DAYS + 1)
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
            parts = await comparison.windows(session, name, since, until)
            length = endpoint.settings.outcome_window_s
            decided = await counted.decided(session, name, since, until, length) if parts else {}
        pairs = sorted({_pair(pairing) for pairing, _ in parts}, key=lambda pair: (-pair[0], pair[1], -pair[2]))
        return endpoint, [_comparison([p for p in parts if _pair(p[0]) == pair], decided) for pair in pairs]


def _pair(pairing: Pairing) -> Pair:
    return pairing.version, pairing.variant, pairing.against


def _comparison(
    parts: Sequence[tuple[Pairing, Answers | Verdicts]], decided: dict[tuple[int, float], int]
) -> Comparison:
    windows: dict[tuple[datetime, datetime], Compared] = {}
    whole = _empty(parts[0][0])
    for pairing, counts in parts:
        windows.setdefault((pairing.start, pairing.end), _empty(pairing)).count(pairing, counts)
        whole.count(pairing, counts)
    for each in windows.values():
        each.answered = decided.get((each.against, each.start.timestamp()))
    whole.answered = _sum(each.answered for each in windows.values())
    newest = sorted(windows.values(), key=lambda each: each.start, reverse=True)
    return Comparison(whole, newest)


def _empty(pairing: Pairing) -> Compared:
    return Compared(pairing.version, pairing.variant, pairing.against, pairing.start, pairing.end)


def _sum(rows: Iterable[int | None]) -> int | None:
    found = [each for each in rows if each is not None]
    return sum(found) if found else None
