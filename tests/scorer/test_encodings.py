"""What is said of content encodings, and what is refused."""

import gzip
import zlib
from functools import partial

import pytest

from services.kit.errors import TooLarge
from services.scorer import wire
from services.scorer.v2 import BadInput

packed = partial(gzip.compress, mtime=0)


def test_a_content_encoding_is_named_as_it_was_sent() -> None:
    with pytest.raises(wire.Unsupported, match=r"^Content-Encoding br is not understood"):
        wire.inflate(b"", b"br", 10)


@pytest.mark.parametrize(("encoding", "body"), [
    (b"identity, gzip", packed(b"said")), (b"gzip, identity", packed(b"said")), (b"", b"said"),
    (b"gzip, gzip", packed(packed(b"said"))), (b"GZIP,  Deflate", zlib.compress(packed(b"said"))),
    (b"identity, identity", b"said"),
], ids=lambda said: said.decode() if said.isascii() else "packed")  # fmt: skip
def test_codings_are_undone_in_turn(encoding: bytes, body: bytes) -> None:
    assert wire.inflate(body, encoding, 100) == b"said"


def test_codings_in_another_order_than_was_said_are_refused() -> None:
    with pytest.raises(BadInput, match="Content-Encoding gzip"):
        wire.inflate(zlib.compress(packed(b"said")), b"deflate, gzip", 100)


def test_each_coding_has_the_limit_and_there_are_few() -> None:
    with pytest.raises(TooLarge):
        wire.inflate(packed(packed(bytes(1000))), b"gzip, gzip", 100)
    with pytest.raises(wire.Unsupported, match="names 5 codings"):
        wire.inflate(b"", b"gzip, " * 5, 100)
    with pytest.raises(wire.Unsupported, match="Content-Encoding br is"):
        wire.inflate(b"", b"gzip, br", 100)


def test_what_becomes_much_is_not_inflated_where_others_wait() -> None:
    few, many = b"0" * wire.LARGE, b"0" * (wire.LARGE + 1)
    assert wire.inflate_little(packed(few), b"gzip", 1 << 24) == few
    assert len(packed(many)) < 1000
    assert wire.inflate_little(packed(many), b"gzip", 1 << 24) is None
    assert wire.inflate_little(packed(packed(many)), b"gzip, gzip", 1 << 24) is None
    with pytest.raises(TooLarge, match="larger than 100 bytes"):
        wire.inflate_little(packed(few), b"gzip", 100)
