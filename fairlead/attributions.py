"""What comes back of what an endpoint's decisions rest on."""

from datetime import datetime
from typing import Any

from .answers import Answer


class Influence(Answer):
    """How much a column moves decisions, in parts of what all columns did over the training rows."""

    column: str
    before: float
    now: float | None = None
    """None before the first explained decision, as are the others."""
    effect: float | None = None
    interval: tuple[float, float] | None = None
    beyond: bool = False
    """Whether the whole interval is beyond the tolerance."""


class AttributionDrift(Answer):
    """How far what decisions rest on moved, over the newest windows; or why that is not known."""

    endpoint: str
    version: int
    state: str
    why: str | None = None
    drifting: bool
    since: datetime | None = None
    statistic: float
    threshold: float
    tolerance: float
    output: str | None = None
    """What is explained of every decision."""
    reference_rows: int
    windows: int
    rows: int
    """Explained decisions of these windows."""
    columns: list[Influence] = []
    alarms: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
