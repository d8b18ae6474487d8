"""How values read on a page: pure functions, used as filters of the templates."""

import re
from datetime import UTC, datetime
from math import floor, log10
from typing import Any

from contracts import FeatureEvidence

_TONES = {
    "good": ("serving", "granted", "ready", "completed", "candidate_won", "clean", "registered", "acknowledged",
             "resolved", "passed", "stable", "within", "kept", "sent"),
    "warn": ("pending", "requested", "in_review", "rolling_out", "running", "loading", "waiting", "warning",
             "quarantined", "suspicious", "incomplete", "champion_kept", "learning", "open",
             "undecided"),
    "bad": ("failed", "rejected", "revoked", "retired", "not ready", "critical", "malicious", "drifting", "raised",
            "breached", "broken", "worse"),
}  # fmt: skip
_TONE_OF = {state: tone for tone, states in _TONES.items() for state in states}
_LONG = re.compile(r"(?:sha256:)?\b([0-9a-f]{64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
_STEPS = ((60, "s"), (60, "min"), (24, "h"), (365, "d"))


def tone(state: Any) -> str:
    """The status colour of a state; states that mean no more than themselves have none."""
    return _TONE_OF.get(str(state), "plain")


def moment(value: Any) -> datetime | None:
    """A time as a service wrote it; None for what is not one."""
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value)) if value else None
    except ValueError:
        return None


def ago(value: Any, now: datetime | None = None) -> str:
    """How long ago something was, in one unit."""
    at = moment(value)
    if at is None:
        return "–"
    passed = ((now or datetime.now(UTC)) - at).total_seconds()
    if passed < 1:
        return "now"
    for size, unit in _STEPS:
        if passed < size:
            return f"{passed:.0f} {unit} ago"
        passed /= size
    return f"{passed:.0f} y ago"


def clock(value: Any) -> str:
    """A time to the second, in UTC."""
    at = moment(value)
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else "–"


def number(value: Any, digits: int = 0) -> str:
    """A number with thin spaces between thousands; – for none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def short_number(value: Any) -> str:
    """A large number in three digits and a letter."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.3g}\u202f{letter}"
    return number(value, 0 if float(value).is_integer() or abs(value) >= 100 else 1)


def moved(feature: Any) -> str:
    """What of a column moved and how far, as the alarm tells it."""
    return FeatureEvidence.model_validate(feature).told


def signed(value: Any, digits: int = 2) -> str:
    """A number with its sign, and a true minus."""
    if not isinstance(value, int | float):
        return "–"
    return f"{value:+.{digits}f}".replace("-", "−")


def percent(value: Any, digits: int = 2) -> str:
    """A share in percent; what is less than all never reads as all, nor what is more than none as none."""
    if not isinstance(value, int | float):
        return "–"
    while digits < 8 and value not in (0, 1) and float(f"{value * 100:.{digits}f}") in (0.0, 100.0):
        digits += 1
    return f"{value * 100:.{digits}f}\u202f%".replace("-", "−")


def measured(value: Any) -> str:
    """A figure of any size in up to four digits, with a true minus."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    size = abs(value)
    if 0 < size < 1e-8:
        return f"{value:.1e}".replace("-", "−")
    small = 1 - floor(log10(size)) if size else 0
    digits = next((n for limit, n in ((1000, 0), (100, 1), (10, 2), (0.01, 3)) if size >= limit), small)
    return number(value, digits).replace("-", "−")


def between(interval: Any) -> str:
    """An interval by its ends."""
    return f"{measured(interval[0])} to {measured(interval[1])}" if interval else "–"


def size(value: Any) -> str:
    """Bytes in a unit that fits."""
    if not isinstance(value, int | float):
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f}\u202f{unit}" if unit == "B" or value >= 100 else f"{value:.1f}\u202f{unit}"
        value /= 1024
    return f"{value:.1f}\u202fTiB"


def short(value: Any, length: int = 12) -> str:
    """The beginning of a digest or an id."""
    return str(value or "–").removeprefix("sha256:")[:length]


def brief(value: Any) -> str:
    """A value of an audit row's detail: digests and ids by their beginning, as everywhere."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return _LONG.sub(lambda found: found.group(1)[:10] + "…", text)


def words(value: Any) -> str:
    """A state or a field's name as words."""
    return str(value or "–").replace("_", " ")


FILTERS = {
    "tone": tone, "ago": ago, "clock": clock, "number": number, "short_number": short_number, "signed": signed,
    "moved": moved, "size": size, "short": short, "words": words, "brief": brief, "percent": percent,
    "measured": measured, "between": between,
}  # fmt: skip
