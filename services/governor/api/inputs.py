"""Inputs that several routes take."""

from typing import Annotated

from pydantic import StringConstraints

from services.kit.inputs import Moment

__all__ = ["Moment", "Reason", "Text"]

Text = Annotated[str, StringConstraints(max_length=200)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
