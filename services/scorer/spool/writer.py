"""The writing side of a slot: one `write` before each reply, under a lock that says whose slot it is."""

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import Literal
from uuid import uuid4

import orjson

from services.kit.errors import Unavailable

from ..files import write_atomically
from .segment import FRAME_BYTES, HEADER_BYTES, MAX_RECORD, SegmentReader, create, frame, segments

Fsync = Literal["none", "interval", "always"]
_LOCK_WAIT_S = 10.0
_LOOK_AGAIN_S = 0.1


class SpoolFull(Unavailable):
    """The spool does not take a record: its bound or the disk is reached."""


class Spool:
    """Appends records to the slot's newest segment. Used from one event loop."""

    def __init__(self, folder: Path, *, limit: int, segment_bytes: int, fsync: Fsync = "interval") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._limit = limit
        self._segment_bytes = segment_bytes
        self._fsync = fsync
        self._lock = _lock(folder / "lock")
        self.torn_bytes = _cut_torn_tail(folder)
        self.writer = _writer(folder)
        self._seq = _last_seq(folder)
        self.appended = 0
        self._retired: list[int] = []
        self._syncing: asyncio.Task[None] | None = None
        self._file = -1
        self._begin()
        self._synced = self._seq
        self._used, self._looked = _used(folder), time.monotonic()

    @property
    def seq(self) -> int:
        """The last number that was given."""
        return self._seq

    @property
    def used(self) -> int:
        """Bytes on disk, about: the forwarder deletes without saying so."""
        return self._used

    def append(self, payload: bytes) -> int:
        """Write one record; answers its number. Raises SpoolFull and leaves no trace of it then."""
        if len(payload) > MAX_RECORD:
            raise SpoolFull(f"a log record of {len(payload)} bytes is more than the spool takes")
        data = frame(self._seq + 1, payload)
        self._refuse_beyond_limit(len(data))
        if self._at + len(data) > self._segment_bytes and self._at > HEADER_BYTES:
            self._begin()
        try:
            written = os.write(self._file, data)
        except OSError as error:
            raise self._undone(error.strerror or str(error)) from error
        if written != len(data):
            raise self._undone("the disk is full")
        self._at += written
        self._used += written
        self._seq += 1
        self.appended += 1
        return self._seq

    async def durable(self, seq: int) -> None:
        """Wait until a record would survive a power loss; callers that wait together share one fsync."""
        while self._synced < seq:
            if self._syncing is None or self._syncing.done():
                self._syncing = asyncio.create_task(self.sync())
            await asyncio.shield(self._syncing)

    async def sync(self) -> None:
        """Write to the disk what the operating system still holds."""
        if self._synced == self._seq:
            return
        seq, current, retired = self._seq, os.dup(self._file), self._retired
        self._retired = []
        await asyncio.to_thread(_sync_and_close, [*retired, current])
        self._synced = max(self._synced, seq)

    def close(self) -> None:
        """Give the slot free. The forwarder drains what is left."""
        _sync_and_close([*self._retired, self._file] if self._fsync != "none" else [], close=False)
        for file in (*self._retired, self._file, self._lock):
            os.close(file)

    def _begin(self) -> None:
        """Start a new segment; the one before is sealed by that."""
        if self._file >= 0 and self._fsync == "none":
            os.close(self._file)
        elif self._file >= 0:
            self._retired.append(self._file)
        path = create(self._folder, self.writer, self._seq + 1)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._at = HEADER_BYTES

    def _undone(self, reason: str) -> SpoolFull:
        os.ftruncate(self._file, self._at)
        return SpoolFull(f"the log does not take the record: {reason}")

    def _refuse_beyond_limit(self, size: int) -> None:
        if self._used + size <= self._limit:
            return
        if time.monotonic() - self._looked > _LOOK_AGAIN_S:
            self._used, self._looked = _used(self._folder), time.monotonic()
        if self._used + size > self._limit:
            raise SpoolFull("the log's spool is full: Kafka has been away for too long; try again later")


def _lock(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    ends = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > ends:
                os.close(file)
                raise Unavailable(f"slot {path.parent.name} of the spool is held by another process") from None
            time.sleep(0.05)


def _cut_torn_tail(folder: Path) -> int:
    """Cut what a killed writer did not finish (its request was never answered); answers how many bytes."""
    torn = 0
    for path in segments(folder)[-1:]:
        with SegmentReader(path) as reader:
            while reader.read().consumed:
                pass
            torn, end = reader.left, reader.offset
        if torn:
            os.truncate(path, end)
    return torn


def _last_seq(folder: Path) -> int:
    """The highest number that can have been given: of a segment, or of what was forwarded."""
    last = 0
    for path in segments(folder)[-1:]:
        with SegmentReader(path) as reader:
            # An empty segment's name is taken: its first number is skipped.
            last = reader.first_seq
            while (parsed := reader.read()).consumed:
                last = max([last, *(entry.seq for entry in parsed.entries)])
    return max(last, checkpoint(folder)[2])


def checkpoint(folder: Path) -> tuple[str, int, int]:
    """How far the forwarder is: segment, offset in it, and the last number that Kafka acknowledged."""
    try:
        said = orjson.loads((folder / "forwarded.json").read_bytes())
        return str(said["segment"]), int(said["offset"]), int(said["seq"])
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError):
        return "", 0, 0


def _writer(folder: Path) -> str:
    """The slot's name as a writer. It is a new one after a reboot, since a power loss may have taken back numbers
    that consumers have seen: under the old name their successors would be held for repeats."""
    path = folder / "writer.json"
    boot = Path("/proc/sys/kernel/random/boot_id")
    booted = boot.read_text().strip() if boot.exists() else ""
    try:
        said = orjson.loads(path.read_bytes())
        if said["boot"] == booted:
            return str(said["writer"])
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError):
        pass
    writer = f"scorer-{folder.name}-{uuid4().hex[:16]}"
    write_atomically(path, orjson.dumps({"writer": writer, "boot": booted}))
    return writer


def _used(folder: Path) -> int:
    return sum(_size(path) for path in segments(folder))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the forwarder was quicker
        return 0


def _sync_and_close(files: list[int], *, close: bool = True) -> None:
    for file in files:
        os.fdatasync(file)
        if close:
            os.close(file)


__all__ = ["FRAME_BYTES", "Fsync", "Spool", "SpoolFull", "checkpoint"]
