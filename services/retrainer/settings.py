"""What the retrainer can be told."""

from pydantic import Field

from services.kit.settings import Settings


class RetrainerSettings(Settings):
    """Environment variables, with `FAIRLEAD_` before their names."""

    retraining_rows: int = Field(default=200, ge=20)
    """Labelled rows that a retraining needs; with fewer it fails and says so."""
    retraining_held_out: float = Field(default=0.25, gt=0, lt=1)
    """The share of rows that the recipe never sees and the comparison is made on."""
    retraining_confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the interval that must lie above zero for a candidate to win."""
    retraining_s: float = 900.0
    """How long a recipe may take."""
    retraining_mb: int = 3072
    """Memory of a recipe beyond its libraries."""
    replay_rows: int = Field(default=100_000, ge=20)
    """The most recorded rows that a challenger is asked about; the newest are taken."""
    scoring_s: float = 300.0
    scoring_mb: int = 2048
