"""Writer and forwarder of a slot, each at any point of the other's work, on a disk that fails: nothing lost, nothing
twice."""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scorer import forwarder
from services.scorer.forwarder import Slot
from services.scorer.logrecord import LogRecord
from services.scorer.spool import Spool, SpoolFull, segments
from services.scorer.spool.segment import HEADER_BYTES

SIZES = st.lists(st.integers(0, 300), max_size=4)
CALLS = ("open", "pwrite", "rename", "write", "short write", "ftruncate", "fdatasync", "fsync")


def fails(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, "Input/output error")


@contextmanager
def disk(failing: frozenset[str]) -> Iterator[None]:
    """On which these calls fail."""
    real = os.write
    with pytest.MonkeyPatch.context() as patched:
        for call in failing & {*CALLS} - {"short write"}:
            patched.setattr(os, call, fails)
        if "short write" in failing:
            patched.setattr(os, "write", lambda file, data: real(file, data[: len(data) // 2]))
        yield


class Protocol(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.folder = self.root / "0"
        self.spool, self.slot = self._spool(), Slot(self.folder)
        self.accepted: list[str] = []
        self.kafka: list[tuple[str, int, str]] = []
        self.given = 0

    def _spool(self) -> Spool:
        return Spool(self.folder, limit=1 << 30, segment_bytes=700)

    def _append(self, sizes: list[int]) -> None:
        for size in sizes:
            self.given += 1
            record = LogRecord(str(self.given), b"{", b"{}", b"x" * size, "story", "parent")
            with suppress(SpoolFull):
                self.spool.append(record.to_spool())
                self.accepted.append(record.inference_id)

    @property
    def _heard(self) -> list[str]:
        """What a reader of the topic takes: a number that is not higher than the last is a repeat."""
        highest: dict[str, int] = {}
        taken: list[str] = []
        for name, seq, id in self.kafka:
            if seq > highest.get(name, 0):
                highest[name] = seq
                taken.append(id)
        return taken

    @rule(sizes=SIZES)
    def append(self, sizes: list[int]) -> None:
        self._append(sizes)

    @rule(sizes=SIZES, failing=st.frozensets(st.sampled_from(CALLS), min_size=1, max_size=3))
    def append_while_the_disk_fails(self, sizes: list[int], failing: frozenset[str]) -> None:
        with disk(failing):
            self._append(sizes)

    @rule(failing=st.frozensets(st.sampled_from(CALLS), max_size=2))
    def sync(self, failing: frozenset[str]) -> None:
        with disk(failing), suppress(SpoolFull):
            asyncio.run(self.spool.sync())

    @rule()
    def the_writer_ends_and_starts(self) -> None:
        self.spool.close()
        self.spool = self._spool()

    @rule(ends=st.booleans(), failing=st.frozensets(st.sampled_from(CALLS), max_size=1))
    def the_forwarder_leaves_a_slot(self, ends: bool, failing: frozenset[str]) -> None:
        """It cannot while the slot has a writer."""
        if ends:
            self.spool.close()
        before = segments(self.folder)
        with disk(failing), suppress(OSError):
            self.slot.leave()
        if not ends:
            assert segments(self.folder) == before
        elif not failing and self.slot.reader and self.slot.still():
            assert self.slot.reader.offset == HEADER_BYTES, "nothing lies in a slot that has been left"
        if ends:
            self.spool = self._spool()

    @rule(torn=st.binary(max_size=30))
    def the_writer_is_killed(self, torn: bytes) -> None:
        """In the middle of a record; the operating system closes what it had open."""
        if self.spool._file >= 0:
            os.write(self.spool._file, (b"\xff" * 4 + torn) if torn else b"")
            os.close(self.spool._file)
        for part in self.spool._retired:
            os.close(part.file)
        os.close(self.spool._lock)
        self.spool = self._spool()

    @rule(
        before=st.sampled_from(["generation", "segments"]), sizes=SIZES,
        failing=st.frozensets(st.sampled_from(CALLS), max_size=2),
        kafka=st.sampled_from(["takes", "is away", "does not say so"]), full=st.booleans(),
    )  # fmt: skip
    def forward(self, before: str, sizes: list[int], failing: frozenset[str], kafka: str, full: bool) -> None:
        """One piece; `before` the forwarder's next step the writer does its work."""

        def look(real: Callable[[Path], Any]) -> Callable[[Path], Any]:
            def looked(folder: Path) -> Any:
                found = real(folder)
                patched.undo()
                with disk(failing):
                    self._append(sizes)
                return found

            return looked

        if self.slot.still() or not self.slot.open():
            return
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(forwarder, before, look(getattr(forwarder, before)))
            name, records, numbers = self.slot.take()
        if kafka != "is away":
            self._write(name, records, numbers)
        if kafka != "takes":
            self.slot.again()
            return
        with pytest.MonkeyPatch.context() as patched:
            if full:
                patched.setattr("services.scorer.files.write_atomically", fails)
            self.slot.acknowledged(numbers[-1] if numbers else self.slot.seq)

    def _write(self, name: str, records: list[LogRecord], numbers: list[int]) -> None:
        self.kafka += [(name, seq, record.inference_id) for seq, record in zip(numbers, records, strict=True)]

    @rule()
    def the_forwarder_starts_anew(self) -> None:
        self.slot.again()
        self.slot = Slot(self.folder)

    @invariant()
    def nothing_is_heard_twice_or_out_of_order_and_a_still_slot_has_nothing_left(self) -> None:
        heard = self._heard
        assert heard == self.accepted[: len(heard)]
        if self.slot.still():
            assert heard == self.accepted

    def teardown(self) -> None:
        try:
            empty = 0
            while empty < 3 and self.slot.open():
                name, records, numbers = self.slot.take()
                self._write(name, records, numbers)
                self.slot.acknowledged(numbers[-1] if numbers else self.slot.seq)
                empty = 0 if records else empty + 1
            assert self._heard == self.accepted
        finally:
            self.slot.again()
            self.spool.close()
            shutil.rmtree(self.root)


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
