"""What an expression of a KPI must be, since every outcome is shown to it: short, quick, and a number."""

from time import perf_counter
from typing import Any

from contracts import KPI_FACTS

from . import cel

LENGTH_AT_MOST = 1_000
"""Characters."""
SECONDS_AT_MOST = 0.005
"""For one row; usual ones take a hundredth of it."""
_LOOKS = 5
_TEXTS = {"entity": "1", "variant": "champion", "received_at": "2026-01-31T12:00:00Z",
          "observed_at": "2026-02-01T12:00:00Z"}  # fmt: skip
_NUMBERS = {"version": 1, "score": 0.75, "value": 100.0}
_SAMPLES = tuple({"segments": {}, **_TEXTS, **_NUMBERS, "prediction": each, "label": each} for each in (1.0, "1"))


def check_kpi(expression: str) -> None:
    """Refuse what cannot be evaluated for every outcome. Raises CelError that says why.

    Some outcomes may have no value: one without a label, or a segment that the samples do not have.
    """
    if len(expression) > LENGTH_AT_MOST:
        raise cel.CelError(f"it has {len(expression)} characters, and may have {LENGTH_AT_MOST}")
    cel.check(expression, KPI_FACTS)
    values: list[Any] = []
    for facts in _SAMPLES:
        try:
            seconds, value = min((_timed(expression, facts) for _ in range(_LOOKS)), key=lambda each: each[0])
        except cel.CelError as error:
            if isinstance(error, cel.CelTooMuch):
                raise
            continue
        if seconds > SECONDS_AT_MOST:
            raise cel.CelError(f"it takes {seconds * 1e3:.0f} ms for one row, and may take {SECONDS_AT_MOST * 1e3:g}")
        values.append(value)
    if values and not any(isinstance(value, bool | int | float) for value in values):
        raise cel.CelError(f"its value is {type(values[0]).__name__}, not a number")


def _timed(expression: str, facts: dict[str, Any]) -> tuple[float, Any]:
    began = perf_counter()
    value = cel.evaluate(expression, facts)
    return perf_counter() - began, value
