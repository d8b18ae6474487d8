"""Bounds of what people may set, for all that take it."""


def none_or_a_minute(seconds: float) -> float:
    """A season's length, or 0 for none. Raises ValueError."""
    if seconds != 0 and not seconds >= 60:
        raise ValueError("a season is 60 seconds at least, or 0 for none")
    return seconds
