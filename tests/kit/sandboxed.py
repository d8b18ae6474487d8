"""The entry of the sandbox tests: runs the Python program that a test hands over, as a hostile model would."""

from collections.abc import Callable


def python(argument: bytes) -> Callable[[bytes], bytes]:
    """Execute the source and answer its `main`."""
    names: dict[str, Callable[[bytes], bytes]] = {}
    exec(argument.decode(), names)
    return names["main"]
