"""What comes back by segment: where a model is worst, and what moved in which group."""

from datetime import datetime

from .answers import Answer
from .levels import Span


class Condition(Answer):
    """One segment and group."""

    segment: str
    group: str


class Figure(Answer):
    """A loss, or a difference of losses, with its interval."""

    value: float
    interval: tuple[float, float]
    rows: int


class Slice(Answer):
    """One group, or two of different segments, whose rows are surely worse than all others."""

    where: list[Condition]
    loss: Figure
    rest: Figure
    difference: Figure
    excess: float
    """So much more loss than at the rest's rate: of classes, so many wrong decisions."""
    like: int | None = None
    """The place, from 1, of the first slice above that has a group in common."""


class Search(Answer):
    """The search over one variant's rows whose outcome is known."""

    window: Span
    version: int
    variant: str
    metric: str
    loss: float
    segments: list[str] = []
    possible: int
    looked_at: int
    worse: int
    slices: list[Slice] = []


class Slices(Answer):
    """Where an endpoint errs most, by version, the newest first."""

    endpoint: str
    confidence: float
    searches: list[Search] = []


class Moved(Answer):
    """How far a column moved within a group (PSI)."""

    name: str
    effect: float
    interval: tuple[float, float]
    beyond: bool
    """Whether the whole interval is beyond the tolerance."""


class Group(Answer):
    """One group of a segment; its columns, the most surely moved first."""

    segment: str
    group: str
    rows: int
    columns: list[Moved] = []
    why: str | None = None


class SegmentDrift(Answer):
    """How far columns moved within the groups of segments, over the newest windows."""

    endpoint: str
    version: int
    confidence: float
    tolerance: float
    start: datetime | None = None
    end: datetime | None = None
    windows: int
    rows: int
    groups: list[Group] = []
