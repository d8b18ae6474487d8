"""What comes back of a dry run: what a setting of a monitor would have raised."""

from datetime import datetime

from pydantic import Field

from contracts import FeatureEvidence

from .answers import Answer


class Raised(Answer):
    """An alarm or a note as it would have been told."""

    kind: str
    dimension: str = "data"
    """`data`, `quality` or `performance`."""
    at: datetime
    since: datetime
    statistic: float
    rows_watched: int
    segment: str | None = None
    features: list[FeatureEvidence] = []


class Trial(Answer):
    """One setting and what it would have raised."""

    budget_rows: int
    tolerance: float
    season_s: float | None = None
    quality_alerts: bool = True
    quality_tolerance: float = 0.05
    expected_error: float | None = None
    alarms: list[Raised] = []
    notes: list[Raised] = []


class DryRun(Answer):
    """Two settings over the same recorded windows and labels."""

    endpoint: str
    version: int
    start: datetime | None = Field(None, alias="from")
    end: datetime | None = Field(None, alias="to")
    windows: int
    rows: int
    labels: int = 0
    labels_from: datetime | None = None
    present: Trial
    proposed: Trial
    not_tried: list[str] = []
    """What alarms as well, and is not in it."""
