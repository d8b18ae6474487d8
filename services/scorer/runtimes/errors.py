"""How a model says no."""

from services.kit.errors import Invalid


class ModelFailed(Invalid):
    """The model did not take this input. The request was well-formed, so it says so and nothing of its values."""


class CannotLoad(Exception):
    """These bytes are not a model that this scorer can serve; the reason is for people."""
