"""The writing side of a slot: one `write` before each reply, under a lock that says whose slot it is."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

import orjson

from services.kit.durable import sync_folder
from services.kit.errors import Unavailable
from services.kit.telemetry import get_logger

from ..files import write_atomically
from .owner import own
from .segment import (
    FRAME_BYTES,
    HEADER_BYTES,
    MAX_RECORD,
    SegmentReader,
    clear,
    create,
    frame,
    keep_spare,
    occupied,
    reserve,
    segments,
    set_aside,
)

log = get_logger(__name__)

Fsync = Literal["none", "interval", "always"]
_LOOK_AGAIN_S = 0.1
_TELL_S = 5.0
"""How long readiness tells of a record that was refused."""
_LOST = 100
"""So many times that a disk failed are remembered: who waits for a record of one asks at once."""
_SEGMENTS = 4
"""At least so many segments fill a spool."""


class SpoolFull(Unavailable):
    """The spool does not take a record: its bound or the disk is reached."""


@dataclass(frozen=True)
class _Part:
    """A segment's descriptor, and the records in it."""

    file: int
    numbers: range


class Spool:
    """Appends records to the slot's newest segment. Used from one event loop.

    A disk that takes nothing, now or at the start, refuses records and ends nobody: the next record tries again.
    """

    def __init__(self, folder: Path, *, limit: int, segment_bytes: int, fsync: Fsync = "interval") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._limit = limit
        # Only whole segments are given back: one as large as the bound would never be.
        self._segment_bytes = min(segment_bytes, limit // _SEGMENTS)
        self._fsync = fsync
        self._lock = own(folder)
        self.torn_bytes = _cut_torn_tail(folder)
        self.writer = ""
        self._seq = _last_seq(folder)
        self.appended = 0
        self._first = 0
        self._retired: list[_Part] = []
        self._lost: list[range] = []
        self._named = False
        """Whether a segment was begun since the folder was written to the disk: its name is in there."""
        self._spare_kept = True
        """Whether nothing was reserved since the disk was told to keep what is."""
        self._syncing: asyncio.Task[None] | None = None
        self._failing = ""
        self._refused, self._refused_at = "", -_TELL_S
        self._file, self._at, self._begun = -1, 0, 0.0
        try:
            _tidy(folder)
            if fsync != "none":
                sync_folder(folder.parent)
            self._begin()
        except OSError as error:
            self._refusal(_said(error))
        self._synced = self._seq
        self._look()

    @property
    def folder(self) -> Path:
        """The slot's folder."""
        return self._folder

    @property
    def seq(self) -> int:
        """The last number that was given."""
        return self._seq

    @property
    def used(self) -> int:
        """Bytes on disk; the forwarder deletes without saying so."""
        if time.monotonic() - self._looked > _LOOK_AGAIN_S:
            self._look()
        return self._used

    @property
    def trouble(self) -> str:
        """Why records are refused, or were a moment ago; empty when all is well."""
        recent = time.monotonic() - self._refused_at < _TELL_S
        return self._failing or (self._refused if recent else "")

    def append(self, payload: bytes) -> int:
        """Write one record; answers its number. Raises SpoolFull and leaves no trace of it then."""
        if len(payload) > MAX_RECORD:
            raise SpoolFull(f"a log record of {len(payload)} bytes is more than the spool takes")
        if self._failing:
            raise self._refusal(self._failing)
        data = frame(self._seq + 1, payload)
        self._refuse_beyond_limit(len(data))
        if self._file < 0 or (self._at + len(data) > self._segment_bytes and self._at > HEADER_BYTES):
            self._roll()
        try:
            written = os.write(self._file, data)
        except OSError as error:
            raise self._undone(_said(error)) from error
        if written != len(data):
            raise self._undone("the disk is full")
        self._at += written
        self._used += written
        self._seq += 1
        self.appended += 1
        return self._seq

    def turn(self, after_s: float) -> None:
        """Begin the next segment where this one holds something and was begun so long ago: what Kafka has is deleted by
        whole segments, and must not lie here for as long as little is asked."""
        if self._file >= 0 and self._at > HEADER_BYTES and time.monotonic() - self._begun >= after_s:
            with suppress(SpoolFull):
                self._roll()

    async def keep_turned(self, after_s: float) -> None:
        """No segment grows for longer, until cancelled."""
        while True:
            await asyncio.sleep(min(after_s, 30.0))
            self.turn(after_s)

    async def durable(self, seq: int) -> None:
        """Wait until a record would survive a power loss; callers that wait together share one fsync.

        Raises SpoolFull where the disk does not say so. The record stays, and is logged if it can be.
        """
        while not self._is_lost(seq) and self._synced < seq:
            await asyncio.shield(self._running() or self._start())
        if self._is_lost(seq):
            raise SpoolFull("the disk did not keep the log record")

    async def sync(self) -> None:
        """Write to the disk what the operating system still holds. Raises SpoolFull, and until a later call succeeds no
        record is taken."""
        while running := self._running():
            await asyncio.wait([running])  # it may have begun before the last record
        if self._synced < self._seq or self._failing:
            await asyncio.shield(self._start())

    def _running(self) -> asyncio.Task[None] | None:
        return None if self._syncing is None or self._syncing.done() else self._syncing

    def _start(self) -> asyncio.Task[None]:
        """One at a time: a second one would know nothing of the files that the first has in hand."""
        self._syncing = asyncio.create_task(self._sync())
        return self._syncing

    async def _sync(self) -> None:
        try:
            if self._file < 0:
                self._begin(kept=True)
            parts = [*self._retired, _Part(os.dup(self._file), range(self._first, self._seq + 1))]
        except OSError as error:
            raise self._not_kept(error) from error
        self._retired, folder, self._named = [], self._folder if self._named else None, False
        if not self._spare_kept:
            self._spare_kept = True
            await asyncio.to_thread(keep_spare, self._folder)
        failed, error = await asyncio.to_thread(_synced, parts, folder)
        for part in failed:
            self._lose(part)
        self._synced = max(self._synced, parts[-1].numbers.stop - 1)
        if error:
            self._named |= folder is not None
            raise self._not_kept(error) from error
        self._failing = ""

    def _lose(self, failed: "_Part") -> None:
        """A disk that failed once says at the next try that all is well with the same file, whatever became of the
        pages that it did not take. So nothing of such a file counts as kept, what was appended meanwhile neither, and
        nothing more is written to it: the next one is begun when the disk keeps its header."""
        first = failed.numbers.start
        if self._file >= 0 and first == self._first:
            self._retire()
            self._seq = max(self._seq, first)  # an empty segment's name is taken
        same = [part for part in self._retired if part.numbers.start == first]
        self._retired = [part for part in self._retired if part.numbers.start != first]
        stop = max(part.numbers.stop for part in [failed, *same])
        self._lost = [*self._lost[-_LOST:], range(max(first, self._synced + 1), stop)]
        _close(same)

    def _is_lost(self, seq: int) -> bool:
        return any(seq in numbers for numbers in self._lost)

    def _not_kept(self, error: OSError) -> SpoolFull:
        self._failing = f"the disk does not keep the log: {_said(error)}"
        return self._refusal(self._failing)

    def close(self) -> None:
        """Give the slot free. The forwarder drains what is left."""
        self._retire()
        _, error = _synced(self._retired, self._folder if self._named and self._fsync != "none" else None)
        if error:
            log.error("the disk does not keep the end of the log", error=_said(error))
        os.close(self._lock)

    def _begin(self, *, kept: bool = False) -> None:
        """Start a new segment, or only where the disk has kept its header; the one before is sealed by that.

        Raises OSError, and nothing changed.
        """
        self.writer = self.writer or _writer(self._folder)
        file = create(self._folder, self.writer, self._seq + 1, kept=kept)
        self._retire()
        self._file, self._at, self._first, self._named = file, HEADER_BYTES, self._seq + 1, True
        self._begun = time.monotonic()
        reserve(self._folder, self.writer)
        self._spare_kept = False

    def _retire(self) -> None:
        """Write nothing more to the current segment."""
        if self._file < 0:
            return
        part, self._file = _Part(self._file, range(self._first, self._seq + 1)), -1
        if self._fsync == "none":
            _close([part])
        else:
            self._retired.append(part)

    def _roll(self) -> None:
        """To a new segment. Where there is no room for one, the old one may still have some."""
        try:
            self._begin()
        except OSError as error:
            if self._file < 0:
                raise self._refusal(f"the log does not take the record: {_said(error)}") from error

    def _undone(self, reason: str) -> SpoolFull:
        """Take back what was written of a record. What is before it is sealed, so that it can be forwarded and deleted:
        that may be what makes room."""
        whole, holds = _truncated(self._file, self._at), self._at > HEADER_BYTES
        if not whole:
            self._retire()  # nothing may stand behind half a record
            self._seq += 1  # an empty segment's name is taken by it
        if holds or not whole:
            with suppress(OSError):
                self._begin()
        return self._refusal(f"the log does not take the record: {reason}")

    def _refusal(self, reason: str) -> SpoolFull:
        self._refused, self._refused_at = reason, time.monotonic()
        return SpoolFull(reason)

    def _look(self) -> None:
        self._used, self._looked = occupied(self._folder), time.monotonic()

    def _refuse_beyond_limit(self, size: int) -> None:
        if self._used + size <= self._limit:
            return
        if time.monotonic() - self._looked > _LOOK_AGAIN_S:
            self._look()
        if self._used + size > self._limit:
            raise self._refusal("the log's spool is full: Kafka has been away for too long; try again later")


def _tidy(folder: Path) -> None:
    """What a power loss left in place of segments takes no room, and is kept where it may be something."""
    if damaged := set_aside(folder):
        log.error("segments of the log cannot be read and are set aside", files=[path.name for path in damaged])
    clear(folder)


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


def _truncated(file: int, size: int) -> bool:
    try:
        os.ftruncate(file, size)
    except OSError:
        return False
    return True


def _synced(parts: Sequence[_Part], folder: Path | None) -> tuple[list[_Part], OSError | None]:
    """Write parts to the disk, and the folder with their names, and close them; answers those that failed, and why."""
    failed: list[_Part] = []
    why: OSError | None = None
    for part in parts:
        try:
            os.fdatasync(part.file)
        except OSError as error:
            failed, why = [*failed, part], error
    _close(parts)
    try:
        if folder:
            sync_folder(folder)
    except OSError as error:
        return [part for part in parts if part.numbers], error
    return failed, why


def _close(parts: Sequence[_Part]) -> None:
    for part in parts:
        with suppress(OSError):  # it says what `fdatasync` said, and the descriptor is gone all the same
            os.close(part.file)


def _said(error: OSError) -> str:
    return error.strerror or str(error)


__all__ = ["FRAME_BYTES", "Fsync", "Spool", "SpoolFull", "checkpoint"]
