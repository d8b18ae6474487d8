"""Nobody is told that nothing was done where that is not known."""

import httpx
import pytest

from services.kit.errors import AnswerLost, Refusal, Unavailable
from services.kit.unanswered import unanswered


@pytest.mark.parametrize(
    ("method", "error", "kind", "sure"),
    [
        ("POST", httpx.ConnectError, Unavailable, True),
        ("DELETE", httpx.ConnectTimeout, Unavailable, True),
        ("POST", httpx.PoolTimeout, Unavailable, True),
        ("POST", httpx.ReadTimeout, AnswerLost, False),
        ("PUT", httpx.RemoteProtocolError, AnswerLost, False),
        ("POST", httpx.WriteError, AnswerLost, False),
        ("GET", httpx.ReadError, Unavailable, False),
    ],
)
def test_what_is_said_of_a_request_without_an_answer(
    method: str, error: type[httpx.TransportError], kind: type[Refusal], sure: bool
) -> None:
    refusal = unanswered("governor", method, error("gone"))
    assert isinstance(refusal, kind)
    assert ("nothing was done" in refusal.message) == sure
