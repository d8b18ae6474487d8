"""How a request is refused: with a sentence that names the tensor or the column, and never its value."""

from services.kit.errors import Invalid

LIMIT = 1500
"""Characters of a message: an error never echoes a large input."""


class BadInput(Invalid):
    """The request is not a V2 request for this model. V2 says 400."""

    status = 400
    title = "Bad request"


def called(name: object) -> str:
    """A name out of a request, as an error may show it."""
    text = name if isinstance(name, str) else f"<{type(name).__name__}>"
    return repr(text if len(text) <= 80 else text[:77] + "...")
