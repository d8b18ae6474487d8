"""How a model says no."""

from services.kit.errors import Invalid


class ModelFailed(Invalid):
    """The model did not take this input. The request was well-formed, so it says so and nothing of its values."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place
        """For the log of whoever owns the model: the class of what it raised and where, and nothing of the input."""


class TookTooLong(ModelFailed):
    """The model did not answer these rows before its deadline; fewer it may."""


class CannotLoad(Exception):
    """These bytes are not a model that this scorer can serve; the reason is for people."""
