"""What a setting would have raised, as a page shows it: alarms on a line of time, beside those that were raised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.console.views import moment

_SHOWN = 20
_FINDINGS = 50
"""So many findings the monitor tells at once."""

Told = Mapping[str, Any]


@dataclass(frozen=True)
class Lane:
    """One of what is compared, with its alarms, the oldest first: so many in all, the first of them shown."""

    name: str
    says: str
    alarms: Sequence[Told]
    notes: int | None = None
    """None where nobody counted them."""

    @property
    def shown(self) -> Sequence[Told]:
        """The first of them."""
        return self.alarms[:_SHOWN]


def lanes(dry: Told, drift: Told) -> list[Lane]:
    """What was really raised over the windows of a dry run, what the present setting raises, what the proposed one
    does."""
    return [
        Lane("Really raised", "of drift alone; one is open until somebody accepts it", raised(dry, drift)),
        Lane("As set now", "each taken as accepted at once", dry["present"]["alarms"], len(dry["present"]["notes"])),
        Lane("As proposed", "each taken as accepted at once", dry["proposed"]["alarms"], len(dry["proposed"]["notes"])),
    ]


def raised(dry: Told, drift: Told) -> list[Told]:
    """Alarms that the monitor raised of these windows, as a dry run tells its own."""
    first, last = moment(dry["from"]), moment(dry["to"])
    found = [
        {"at": event["window"]["to"], "since": event["since"], "rows_watched": event.get("rows_watched"),
         "features": event["features"]}
        for event in (finding["event"] for finding in drift.get("alarms", ()))
        if event["version"] == dry["version"] and _within(moment(event["window"]["to"]), first, last)
    ]  # fmt: skip
    return sorted(found, key=lambda alarm: alarm["at"])


def _within(at: datetime | None, first: datetime | None, last: datetime | None) -> bool:
    return bool(at and first and last and first <= at <= last)


def is_cut(dry: Told, drift: Told) -> bool:
    """Whether alarms may have been raised that the monitor no longer tells: it tells of its newest findings alone."""
    found = [*drift.get("alarms", ()), *drift.get("notes", ())]
    oldest, first = min((moment(each["found_at"]) for each in found), default=None), moment(dry["from"])  # pyright: ignore[reportArgumentType]
    return len(found) >= _FINDINGS and bool(oldest and first and first < oldest)


def place(dry: Told, at: Any) -> float:
    """Where a moment is on a line of the windows, 0 to 100."""
    first, last, found = moment(dry["from"]), moment(dry["to"]), moment(at)
    if not first or not last or not found or last <= first:
        return 0.0
    return round(min(100.0, max(0.0, 100 * ((found - first) / (last - first)))), 2)
