"""How sending fails."""


class Undelivered(Exception):
    """An attempt that came to nothing, and why, in words of our own; `again`: another one may succeed."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again
