"""What the monitor needs to know."""

from pydantic import Field

from services.kit.settings import Settings


class MonitorSettings(Settings):
    """`FAIRLEAD_LATENESS_S` and the like override these."""

    lateness_s: float = Field(default=2.0, ge=0)
    """How long a window waits for rows after its end (ADR 9); several hosts with clocks of their own want 5. A row
    that comes later still revises its window."""
    block_rows: int = Field(default=100, ge=1)
    """The detector looks after each so many rows, where there are not too many at once."""
    blocks_per_batch: int = Field(default=8, ge=1)
    """At a high rate the detector looks so often per batch of the stream: less often in rows, as often in time."""
    monitor_batch_records: int = Field(default=4_000, ge=1)
    """Records that are counted in one transaction."""
    kept_counts: int = Field(default=2_000, ge=10)
    """So many newest windows of an endpoint keep their counts; older ones keep the report."""
    windows_kept_days: int = Field(default=30, ge=1)
    """Closed windows older than this go, with their reports; so does what versions used."""
    outcomes_kept_days: int = Field(default=90, ge=1)
    """An outcome counts where its decision is no older; so long it can be revised."""
