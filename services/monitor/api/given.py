"""What people may set, for all that take it: left out, it stays as it is."""

from pydantic import model_validator

from services.kit.http import Body


class SomeSettings(Body):
    """Some settings, and not none."""

    @model_validator(mode="after")
    def _says_something(self) -> "SomeSettings":
        if not self.model_fields_set:
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}")
        return self
