"""What comes back about a version beside the champion, on the same requests."""

from contracts import Latency

from .answers import Answer
from .levels import Span


class Figure(Answer):
    """A figure with its interval; where it is not told, why."""

    name: str
    value: float | None = None
    interval: tuple[float, float] | None = None
    rows: int
    why: str | None = None


class Cell(Answer):
    """Rows by what callers were told and what the other version would have said."""

    told: str
    said: str
    rows: int


class ComparedGroup(Answer):
    """One group of a segment."""

    segment: str
    group: str
    rows: int
    statistic: Figure


class ComparedAnswers(Answer):
    """What both said, whatever became of it."""

    requests: int
    rows: int
    unknown: int
    failed: int
    """Rows that callers were answered and the other version refused."""
    failures: dict[str, int] = {}
    answered: int | None = None
    """Rows that callers were told of in these windows, copied or not."""
    statistics: list[Figure] = []
    cells: list[Cell] = []
    groups: list[ComparedGroup] = []
    told_latency: Latency | None = None
    said_latency: Latency | None = None


class ComparedOutcomes(Answer):
    """Who was right, of rows whose truth is known."""

    rows: int
    unknown: int
    both_right: int
    only_told_right: int
    only_said_right: int
    both_wrong: int
    verdict: str
    statistics: list[Figure] = []
    groups: list[ComparedGroup] = []


class Compared(Answer):
    """A span of time."""

    window: Span
    answers: ComparedAnswers
    outcomes: ComparedOutcomes


class Comparison(Answer):
    """Two versions: a shadow's, and the one that callers were told of."""

    version: int
    variant: str
    against: int
    task: str | None = None
    overall: Compared
    windows: list[Compared] = []


class Comparisons(Answer):
    """What stood beside the champion, on the same requests."""

    endpoint: str
    confidence: float
    window_s: float
    comparisons: list[Comparison] = []
