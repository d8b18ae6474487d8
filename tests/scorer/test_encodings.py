"""What a refused content encoding is told."""

import pytest

from services.scorer import wire


def test_a_content_encoding_is_named_as_it_was_sent() -> None:
    with pytest.raises(wire.Unsupported, match=r"^Content-Encoding br is not understood"):
        wire.inflate(b"", b"br", 10)
