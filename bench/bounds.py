"""What a part of the bench promises of two latencies, and whether it was kept."""

from typing import Any


def verdict(before_ms: float, after_ms: float, bound: float) -> dict[str, Any]:
    """How many times the one that the other is, the bound of that, and whether it is kept."""
    ratio = float(after_ms / before_ms)
    return {"ratio": ratio, "bound": bound, "kept": ratio <= bound}


def broken(found: dict[str, Any]) -> list[str]:
    """The parts of a run that are beyond their bounds; most parts have none."""
    return [name for name, part in found.items() if isinstance(part, dict) and part.get("kept") is False]
