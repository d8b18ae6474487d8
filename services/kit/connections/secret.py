"""Values that lie outside the file of the connections, and are in no message."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from ..errors import Unavailable


class Strict(BaseModel):
    """What an administrator writes."""

    # What is refused may be a secret in the wrong place: its value is in no message.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class Secret(Strict):
    """A value that lies elsewhere: in an environment variable, or in a file, whose end of line is not part of it."""

    env: str | None = None
    file: Path | None = None
    prefix: str = ""
    """What comes before it, such as `Bearer `."""

    @model_validator(mode="after")
    def _is_one(self) -> "Secret":
        if (self.env is None) == (self.file is None):
            raise ValueError("name one of env and file")
        return self

    def read(self) -> str:
        """The value as it is now. Raises ValueError in words that hold nothing of it."""
        if self.env is not None:
            if (value := os.environ.get(self.env)) is None:
                raise ValueError(f"the environment has no {self.env}")
            return self.prefix + value
        assert self.file is not None
        try:
            return self.prefix + self.file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.file} cannot be read ({type(error).__name__})") from None


def without(secrets: Mapping[str, str], error: Exception) -> str:
    """The first line of an error, where it holds none of these values."""
    line = (str(error).splitlines() or [""])[0][:300]
    return "the object store does not take them" if any(value in line for value in secrets.values()) else line


def values(name: str, field: str, said: Mapping[str, SecretStr | Secret]) -> dict[str, str]:
    """What a connection's field says, as it is now. Raises Unavailable naming what has no value."""
    now: dict[str, str] = {}
    for key, value in said.items():
        try:
            now[key] = value.read() if isinstance(value, Secret) else value.get_secret_value()
        except ValueError as error:
            raise Unavailable(f"connection {name}: {field}.{key}: {error}") from None
    return now
