"""How a watch of an endpoint stands, whatever it watches."""

from dataclasses import dataclass

from ..domain.watch import Watch
from ..store import Endpoint, FindingRow


@dataclass(frozen=True)
class Watching:
    """A watch, and what it found."""

    endpoint: Endpoint
    watch: Watch | None
    findings: list[FindingRow]

    @property
    def alarm(self) -> FindingRow | None:
        """The open alarm."""
        return next((finding for finding in self.findings if finding.is_open), None)

    @property
    def statistic(self) -> float:
        """The logarithm of the evidence of a change; 0 before the first window."""
        return self.watch.statistic if self.watch else 0.0
