"""Health means progress: a part that stands still for too long makes the service not ready."""

import time
from dataclasses import dataclass, field

STUCK_S = 60.0
"""Longer than any handler, batch or statement may take."""


@dataclass
class Part:
    """One thing that must go on: the bus, the relay, a stream, a job."""

    grace_s: float
    busy_since: float | None = None
    failing_since: float | None = None
    reason: str = "has not started"
    started: bool = False


@dataclass
class Progress:
    """What each part of a process last said of itself."""

    parts: dict[str, Part] = field(default_factory=dict[str, Part])

    def expect(self, name: str, grace_s: float = 5.0) -> None:
        """From now on readiness needs this part."""
        self.parts.setdefault(name, Part(grace_s))

    def work(self, name: str) -> None:
        """The part begins with something; `beat` or `fail` says how it ended."""
        part = self.parts.setdefault(name, Part(5.0))
        part.busy_since = time.monotonic()

    def beat(self, name: str) -> None:
        """The part did its work, or looked and found none."""
        part = self.parts.setdefault(name, Part(5.0))
        part.started, part.busy_since, part.failing_since, part.reason = True, None, None, ""

    def fail(self, name: str, reason: str) -> None:
        """The part tries and does not get on."""
        part = self.parts.setdefault(name, Part(5.0))
        part.busy_since = None
        part.failing_since = part.failing_since or time.monotonic()
        part.reason = reason[:300]

    def problems(self) -> dict[str, str]:
        """The parts that are not ready, with the reason. Short troubles within the grace do not count."""
        at = time.monotonic()
        return {name: reason for name, part in self.parts.items() if (reason := _problem(part, at))}


def _problem(part: Part, at: float) -> str:
    if part.busy_since is not None and at - part.busy_since > STUCK_S:
        return f"has been at the same work for {at - part.busy_since:.0f} s"
    if not part.started or (part.failing_since is not None and at - part.failing_since > part.grace_s):
        return part.reason or "has not started"
    return ""
