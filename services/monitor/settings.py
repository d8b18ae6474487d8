"""What the monitor needs to know."""

from typing import Annotated

from pydantic import Field, model_validator

from services.kit.settings import Settings

from .domain.service.costs import Prices

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class MonitorSettings(Settings):
    """`FAIRLEAD_LATENESS_S` and the like override these."""

    lateness_s: float = Field(default=2.0, ge=0)
    """How long a window waits for rows after its end (ADR 9); several hosts with clocks of their own want 5. A row
    that comes later still revises its window."""
    block_rows: int = Field(default=25, ge=1)
    """The detector looks after each so many rows, where there are not too many at once (ADR 47)."""
    looks_per_window: int = Field(default=64, ge=1)
    """It looks so often at a window that has more rows, since each look costs a millisecond."""
    blocks_per_batch: int = Field(default=8, ge=1)
    """At a high rate the detector looks so often per batch of the stream: less often in rows, as often in time."""
    monitor_batch_records: int = Field(default=4_000, ge=1)
    """Records that are counted in one transaction."""
    kept_counts: int = Field(default=2_000, ge=10)
    """So many newest windows of an endpoint keep their counts; older ones keep the report."""
    outcomes_kept_days: int = Field(default=90, ge=1)
    """An outcome counts where its decision is no older; so long it can be revised."""
    attributed_per_s: float = Field(default=2.0, gt=0, le=100)
    """At most so many decisions of an endpoint are explained a second, as a mean over a window."""
    price_cpu_second: Price | None = None
    """What a second of a processor costs."""
    price_gb_hour: Price | None = None
    """What a gigabyte (10^9 bytes) of memory costs an hour."""
    price_currency: str = Field(default="", pattern=r"^([A-Z]{3})?$")
    """Of both, by ISO 4217; needed where one is set."""

    @model_validator(mode="after")
    def _prices_have_a_currency(self) -> "MonitorSettings":
        if not self.price_currency and (self.price_cpu_second, self.price_gb_hour) != (None, None):
            raise ValueError("FAIRLEAD_PRICE_CURRENCY says in what a price is, such as EUR")
        return self

    @property
    def prices(self) -> Prices | None:
        """None where nothing has a price."""
        if self.price_cpu_second is None and self.price_gb_hour is None:
            return None
        return Prices(self.price_currency, self.price_cpu_second, self.price_gb_hour)
