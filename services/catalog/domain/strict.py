"""What people write: a typo is refused by name."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Identifier = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]


class Strict(BaseModel):
    """What people write: a typo is refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
