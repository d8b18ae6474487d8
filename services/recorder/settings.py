"""What the recorder needs to know."""

from pathlib import Path

from pydantic import Field

from services.kit.settings import Settings


class RecorderSettings(Settings):
    """`FAIRLEAD_FLUSH_S` and the like override these."""

    flush_s: float = Field(default=1.5, ge=0)
    """How long records are gathered for a file while nothing is behind: a decision can be looked up soon after."""
    recorder_batch_records: int = Field(default=10_000, ge=1)
    """Records of the log that are recorded in one transaction."""
    outcomes_flush_s: float = Field(default=5.0, ge=0, le=10)
    """How long outcomes are gathered for a file while nothing is behind: whom one concerns is told of it before."""
    patience_days: int = Field(default=30, ge=1)
    """An outcome waits so long for its inference."""
    outcome_units: frozenset[str] = frozenset({"retail"})
    """Business units whose applications Kafka lets write `outcome.reported`: an outcome over the topic is for these."""
    snapshot_rows: int = Field(default=500_000, ge=1)
    """A snapshot holds the newest so many rows."""
    compact_after_minutes: int = Field(default=15, ge=0)
    """Files of an hour are merged so long after it ended."""
    compacted_mb: int = Field(default=128, ge=1)
    """MiB that a merged file has at most."""

    @property
    def recorded(self) -> Path:
        """The folder of Parquet files, with one for each kind."""
        return self.home.absolute() / "data" / "recorder"

    @property
    def inferences(self) -> Path:
        """The Parquet files of decisions."""
        return self.recorded / "inferences"

    @property
    def outcomes(self) -> Path:
        """The Parquet files of outcomes."""
        return self.recorded / "outcomes"
