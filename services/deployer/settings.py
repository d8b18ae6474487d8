"""What the deployer can be told."""

from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from contracts import SERVICES
from services.kit.settings import Settings

Principal = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]


class DeployerSettings(Settings):
    """Environment variables, with `FAIRLEAD_` before their names."""

    replicas_needed: int = 1
    """Scorer hosts that must serve a revision before its deployment counts as serving."""
    rollout_patience_s: float = Field(default=900.0, gt=0)
    """Seconds after which a rollout that not enough hosts are ready for counts as failed."""
    removed_kept_h: float = Field(default=24.0, ge=0)
    """Hours for which a removed endpoint's state stays in `deployment.changed` before its tombstone."""
    stream_principals: dict[str, tuple[Principal, ...]] = {"retail": ("application",), "wealth": ("other-unit",)}
    """The Kafka principals of each business unit's applications: they write requests and read results."""

    @field_validator("stream_principals")
    @classmethod
    def _of_one_unit(cls, given: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """A principal acts for one unit: with two it would carry one's streams to the other."""
        names = [name for names in given.values() for name in set(names)]
        if shared := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"principals of more than one business unit: {', '.join(shared)}")
        if ours := sorted(set(names) & {*SERVICES, "operator"}):
            raise ValueError(f"these principals are no applications: {', '.join(ours)}")
        return given
