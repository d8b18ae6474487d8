"""Inputs that several routes take."""

from typing import Annotated

from pydantic import StringConstraints

from services.kit.inputs import Moment

__all__ = ["AlertKind", "Moment", "Reason", "Text", "Unit"]

Text = Annotated[str, StringConstraints(max_length=200)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Unit = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,62})$")]
"""A business unit, or `*` for all of them."""
AlertKind = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
"""What an alert is about, as whoever raises it calls it: `drift`, `latency-budget`."""
