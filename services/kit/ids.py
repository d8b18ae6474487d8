"""Identifiers and the clock."""

import os
import time
from datetime import UTC, datetime
from uuid import UUID


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562): 48 bits of milliseconds, the rest random."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def uuid7_text() -> str:
    """`str(uuid7())`, a few times quicker: for ids that are made for every inference."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(_random.take())
    value = value & ~(0xF << 76) | 0x7 << 76
    text = "%032x" % (value & ~(0x3 << 62) | 0x2 << 62)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class _Random:
    """The operating system's random bytes, fetched for many ids at once: a system call for each is dear."""

    _SIZE, _IDS = 10, 256

    def __init__(self) -> None:
        self._bytes, self._at = b"", 0
        os.register_at_fork(after_in_child=self._forget)

    def take(self) -> bytes:
        if self._at >= len(self._bytes):
            self._bytes, self._at = os.urandom(self._SIZE * self._IDS), 0
        taken = self._bytes[self._at : self._at + self._SIZE]
        self._at += self._SIZE
        return taken

    def _forget(self) -> None:
        self._bytes, self._at = b"", 0


_random = _Random()


def now() -> datetime:
    """The current moment, aware, in UTC."""
    return datetime.now(UTC)
