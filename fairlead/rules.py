"""What comes back of the business rules of an endpoint."""

from datetime import datetime

from .answers import Answer


class Broken(Answer):
    """A decision that broke a rule."""

    inference_id: str
    row: int
    """Of its request, counted from 0."""
    received_at: datetime


class Rule(Answer):
    """One rule, over the newest windows."""

    name: str
    must: str
    tolerance: float
    severity: str
    rows: int
    """Looked at; of these `broken` broke it, and `undecided` could not be evaluated."""
    broken: int
    undecided: int
    not_looked_at: int
    share: float | None = None
    examples: list[Broken] = []
    by_row: bool = False
    """Where rows are many, some are not looked at."""
    why: str | None = None
    """Why it cannot be evaluated for decisions of the version that serves."""
    alarmed: bool = False
    since: datetime | None = None


class Rules(Answer):
    """How decisions kept the business rules of an endpoint, over its newest windows."""

    endpoint: str
    start: datetime | None = None
    end: datetime | None = None
    windows: int
    rows: int
    rules: list[Rule] = []
