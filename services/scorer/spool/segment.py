"""The format of spool files: a header, then records of length, checksum, sequence number and payload.

What writer and forwarder tell one another by these files is in `README.md` beside this file.
"""

import errno
import fcntl
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

HEADER_BYTES = 64
MAX_RECORD = 256 * 1024 * 1024
_MAGIC = b"FLSPOOL1"
_HEADER = struct.Struct("<8sQB47s")
_FRAME = struct.Struct("<IIQ")
FRAME_BYTES = _FRAME.size
_SIGNED = struct.Struct("<IQ")
_PIECE = 1024 * 1024
_SPARE, _DAMAGED = "spare.part", ".damaged"
_PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as it was written."""

    seq: int
    payload: bytes


@dataclass(frozen=True)
class Parsed:
    """What a piece of a spool file holds."""

    entries: list[Entry]
    consumed: int
    """Bytes of whole records; what follows is a record whose end is not there."""
    damaged: int
    """Whole records whose checksum does not fit."""


def frame(seq: int, payload: bytes) -> bytes:
    """A record, ready to be written in one call."""
    size = len(payload)
    return _FRAME.pack(size, zlib.crc32(payload, zlib.crc32(_SIGNED.pack(size, seq))), seq) + payload


def parse(data: bytes) -> Parsed:
    """The whole records at the start of `data`. A damaged one is left out and counted."""
    entries: list[Entry] = []
    at = damaged = 0
    while at + FRAME_BYTES <= len(data):
        size, checksum, seq = _FRAME.unpack_from(data, at)
        end = at + FRAME_BYTES + size
        if end > len(data):
            break
        payload = data[at + FRAME_BYTES : end]
        if zlib.crc32(payload, zlib.crc32(_SIGNED.pack(size, seq))) == checksum:
            entries.append(Entry(seq, payload))
        else:
            damaged += 1
        at = end
    return Parsed(entries, at, damaged)


def segments(folder: Path) -> list[Path]:
    """The segments of a slot, oldest first: a name is the first sequence number.

    A power loss may leave one without its header: it is none.
    """
    return sorted(path for path in folder.glob("*.seg") if _has_header(path))


def set_aside(folder: Path) -> list[Path]:
    """Rename what is called a segment and cannot be read as one, and is not just empty; answers what it is called now.
    Raises OSError."""
    found: list[Path] = []
    for path in sorted(folder.glob("*.seg")):
        with suppress(FileNotFoundError):  # who reads this slot was quicker, or who writes to it
            if not _has_header(path) and not _is_blank(path):
                found.append(path.rename(path.with_suffix(_DAMAGED)))
    return found


def clear(folder: Path) -> None:
    """Delete what is called a segment and holds nothing but zeros: a power loss leaves such. Only for the slot's owner.
    Raises OSError."""
    for path in folder.glob("*.seg"):
        with suppress(FileNotFoundError):
            if not _has_header(path) and _is_blank(path):
                path.unlink()


def _is_blank(path: Path) -> bool:
    return not path.read_bytes().strip(b"\0")


def aside(folder: Path) -> int:
    """How many segments of a slot were set aside, for people to look at."""
    return sum(1 for _ in folder.glob(f"*{_DAMAGED}"))


def occupied(folder: Path) -> int:
    """Bytes in the segments of a slot."""
    return sum(map(size_of, folder.glob("*.seg")))


def _has_header(path: Path) -> bool:
    try:
        status = path.stat()
        return status.st_size >= HEADER_BYTES and _has_magic(path, status.st_ino)
    except FileNotFoundError:  # the forwarder was quicker
        return False


@lru_cache(4096)
def _has_magic(path: Path, inode: int) -> bool:
    """Of one file for good: a segment has its header before it has its name."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def size_of(path: Path) -> int:
    """Bytes of a file; 0 for one that is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the forwarder was quicker
        return 0


def create(folder: Path, writer: str, first_seq: int, *, kept: bool = False) -> int:
    """A new segment, complete with its header (`kept`: on the disk) or not there at all, out of the spare file where
    there is one; answers its descriptor, open for appending. Raises OSError: then there is no new segment.

    Its name seals the segment before, so it comes last: once it is said, nothing can fail any more.
    """
    path, spare = folder / f"{first_seq:020d}.seg", folder / _SPARE
    header = _header(writer, first_seq)
    file = _opened(spare)
    try:
        os.fchmod(file, _PRIVATE)  # a spare file may be of a version that did not see to it
        if os.pwrite(file, header, 0) != len(header):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(file, HEADER_BYTES)
        if kept:
            os.fsync(file)
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)  # only now: what is opened so writes at the end alone
        spare.rename(path)
    except BaseException:
        os.close(file)
        raise
    return file


def reserve(folder: Path, writer: str) -> None:
    """Keep the room of one more segment's beginning: on a full disk the next one seals what can then be forwarded and
    deleted, so that a spool that filled its own disk gets out of it. It has a header already, but for its number: where
    a power loss keeps the name of the segment that it becomes, and not what was written last, this one is in it."""
    try:
        with os.fdopen(_opened(folder / _SPARE), "wb") as file:
            file.write(_header(writer, 0))
    except OSError:
        return  # there will be room, or there will not


def keep_spare(folder: Path) -> None:
    """Write what was reserved to the disk, as far as it can be: beforehand, since nobody waits for it now."""
    with suppress(OSError):
        file = os.open(folder / _SPARE, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)


def _header(writer: str, first_seq: int) -> bytes:
    return _HEADER.pack(_MAGIC, first_seq, len(writer.encode()), writer.encode())


def _opened(spare: Path) -> int:
    """To be written from its beginning; for its owner alone, since what is logged is personal."""
    return os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)


def generation(folder: Path) -> int:
    """Another number whenever a segment was begun, which takes the spare file; 0 where there is no spare to tell."""
    try:
        return (folder / _SPARE).stat().st_ino
    except FileNotFoundError:
        return 0


class SegmentReader:
    """Reads one segment, which may still be growing."""

    def __init__(self, path: Path, offset: int = HEADER_BYTES) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY)
        magic, _, size, writer = _HEADER.unpack(os.pread(self._file, HEADER_BYTES, 0))
        self.first_seq = int(path.stem)
        if magic != _MAGIC:
            os.close(self._file)
            raise ValueError(f"{path} is no spool segment")
        self.writer: str = writer[:size].decode(errors="replace")
        self.offset = max(offset, HEADER_BYTES)

    def read(self, limit: int = _PIECE) -> Parsed:
        """The next whole records, about `limit` bytes of them; moves on behind them."""
        data = os.pread(self._file, limit, self.offset)
        parsed = parse(data)
        if parsed.consumed == 0 and len(data) == limit:
            size, _, _ = _FRAME.unpack_from(data)
            if size <= MAX_RECORD:  # larger than a piece: read it whole
                parsed = parse(os.pread(self._file, FRAME_BYTES + size, self.offset))
        self.offset += parsed.consumed
        return parsed

    @property
    def left(self) -> int:
        """Bytes behind the last whole record."""
        return os.fstat(self._file).st_size - self.offset

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
