"""What people may set, for all that take it: left out, it stays as it is."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from services.kit.http import Body


def _none_or_a_minute(seconds: float) -> float:
    if seconds != 0 and not seconds >= 60:
        raise ValueError("a season is 60 seconds at least, or 0 for none")
    return seconds


Budget = Annotated[int, Field(ge=1_000, le=10**12)]
Tolerance = Annotated[float, Field(gt=0, le=10)]
Season = Annotated[float, Field(le=366 * 86_400), AfterValidator(_none_or_a_minute)]
"""0: none."""


class SomeSettings(Body):
    """Some settings, and not none."""

    @model_validator(mode="after")
    def _says_something(self) -> "SomeSettings":
        if not self.model_dump(exclude_none=True):
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}")
        return self
