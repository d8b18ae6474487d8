"""What the deployer can be told."""

from services.kit.settings import Settings


class DeployerSettings(Settings):
    """Environment variables, with `FAIRLEAD_` before their names."""

    replicas_needed: int = 1
    """Scorer hosts that must serve a revision before its deployment counts as serving."""
    stream_principals: dict[str, tuple[str, ...]] = {"retail": ("application",), "wealth": ("other-unit",)}
    """The Kafka principals of each business unit's applications: they write requests and read results."""
