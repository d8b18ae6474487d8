"""How a sandbox says no."""

from services.kit.errors import Unavailable


class SandboxError(Exception):
    """The code in the sandbox raised, or asked for more than it may have. The worker lives on.

    Its message is the code's own words, which may hold values of its input.
    """

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place
        """The class of what was raised and where, which holds nothing of the input; empty where nothing tells it."""


class SandboxDied(SandboxError):
    """The worker process ended or was ended; what it last wrote to stderr is in the message."""


class SandboxAway(SandboxDied):
    """No worker is there to be asked: the last one ended before, and the next is not up in time."""


class SandboxDeadline(SandboxDied):
    """The code took longer than its deadline and was killed."""


class SandboxUnavailable(Unavailable):
    """This machine lacks a layer of the sandbox: nothing that executes code is opened here."""
