"""Carries every slot's spool to `inference.logged`: in order, at least once; repeats bear writer and number again."""

import asyncio
import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import Counter, Gauge

from contracts import InferenceLogged
from services.kit.again import Backoff
from services.kit.cloudevents import Headers
from services.kit.errors import Refusal
from services.kit.kafka import is_away
from services.kit.objects import Objects
from services.kit.producer import Producer
from services.kit.telemetry import get_logger

from .counters import metering
from .files import tell
from .logrecord import HeaderMaker, LogRecord, Origin, offload
from .metering import Meter
from .process import BEHIND, fatal, run_child
from .settings import ScorerSettings
from .spool import SegmentReader, aside, segments
from .spool.owner import unowned
from .spool.segment import HEADER_BYTES, generation, set_aside
from .spool.writer import checkpoint

log = get_logger(__name__)

LOGGED = Counter("fairlead_scorer_logged_total", "Inferences that Kafka acknowledged, repeats included", ["slot"])
DAMAGED = Counter("fairlead_scorer_spool_damaged_total", "Spool records that the disk gave back altered", ["slot"])
BACKLOG = Gauge("fairlead_scorer_spool_backlog_bytes", "Spooled and not yet acknowledged by Kafka", ["slot"])
ASIDE = Gauge("fairlead_scorer_spool_damaged_segments", "Spool files that cannot be read and were set aside", ["slot"])

_PIECE = 1024 * 1024
_BATCH_BYTES = 900_000
"""Below the broker's largest message set (1 MiB), above the largest record."""
_LINGER_S = 0.03
_IDLE_S = 0.06
_LOOK_FOR_SLOTS_S = 1.0
_FIRST_PAUSE_S = 0.2
_SAY_AGAIN_S = 5.0
_RECORD_S, _BYTE_S = 2e-5, 2e-9
"""What forwarding a record takes of a processor and what each of its bytes does, about: only their ratio counts."""


@dataclass
class Slot:
    """One slot's spool, from where Kafka acknowledged it."""

    folder: Path
    seq: int = 0
    reader: SegmentReader | None = None
    finished: list[Path] = field(default_factory=list[Path])
    """Segments that are behind, and go once the checkpoint is."""
    listed: int = 0
    """The `generation` of the segments when they were last listed."""
    held: str = ""
    """Why nothing of it is sent at the moment, though Kafka is there."""
    due: float = 0.0
    """Until when, by `time.monotonic`."""
    pauses: Backoff = field(default_factory=lambda: Backoff(_FIRST_PAUSE_S))

    @property
    def name(self) -> str:
        """The slot's number, as its folder says it."""
        return self.folder.name

    def open(self) -> bool:
        """Stand where the checkpoint says, or at the oldest record; False where there is none yet."""
        if self.reader is None:
            set_aside(self.folder)
            segment, offset, self.seq = checkpoint(self.folder)
            found = segments(self.folder)
            if not found:
                return False
            same = next((path for path in found if path.name == segment), None)
            self.reader = SegmentReader(same, offset) if same else SegmentReader(found[0])
            self.finished = [path for path in found if path.name < self.reader.path.name]
        return True

    def still(self) -> bool:
        """Whether nothing was written since everything was taken: two questions instead of a list of files."""
        if self.finished or (self.reader and self.reader.left):
            return False
        return self.listed != 0 and self.listed == generation(self.folder)

    def take(self) -> tuple[str, list[LogRecord], list[int]]:
        """Writer, records and numbers of the next piece; moves into the next segment where one is done."""
        assert self.reader is not None
        seen = generation(self.folder)  # before listing: a segment that is begun meanwhile shows again
        newer = [path for path in segments(self.folder) if path.name > self.reader.path.name]
        while True:
            parsed = self.reader.read(_PIECE)  # after looking for newer ones: what they seal is complete
            if parsed.damaged:
                self._damaged(parsed.damaged)
            if parsed.consumed or not newer:
                break
            self._next(newer.pop(0))
        self.listed = 0 if newer else seen  # nothing is still while a later segment waits
        records = [LogRecord.from_spool(entry.payload) for entry in parsed.entries]
        return self.reader.writer, records, [entry.seq for entry in parsed.entries]

    def acknowledged(self, seq: int) -> None:
        """Kafka has everything up to here.

        On a full disk the checkpoint stays where it was, and finished segments go all the same: they are what makes
        room. After a kill then, what was sent since is sent again, under the same writer and numbers.
        """
        self._stand(seq)
        for path in self.finished:
            path.unlink(missing_ok=True)
        self.finished = []

    def leave(self) -> None:
        """Delete the last segment where Kafka has all of it and nobody writes to this slot: the next writer, who seals
        it, may be long in coming. An empty one holds nothing, and stays."""
        if self.reader is None or self.reader.offset == HEADER_BYTES or not self.still():
            return
        with unowned(self.folder) as free:
            # Asked again: who wrote a moment ago may have ended since. No name comes twice: this one is the floor, too.
            if free and self.still() and self._stand(self.reader.first_seq):
                self.reader.path.unlink(missing_ok=True)
                seen = self.listed
                self.again()
                self.listed = seen

    def _stand(self, seq: int) -> bool:
        """Write the checkpoint: everything up to here, at least to this number; answers whether the disk took it."""
        assert self.reader is not None
        self.seq = max(self.seq, seq)
        at = {"segment": self.reader.path.name, "offset": self.reader.offset, "seq": self.seq}
        return tell(self.folder / "forwarded.json", orjson.dumps(at))

    def again(self) -> None:
        """Forget what was taken and not acknowledged."""
        if self.reader:
            self.reader.close()
        self.reader, self.finished, self.listed = None, [], 0

    def hold(self, error: Exception) -> None:
        """What it needs beside Kafka is away: it waits, and no other slot."""
        log.warning("a slot's log is delayed", slot=self.name, error=f"{type(error).__name__}: {error}"[:300])
        self.again()
        self.held, self.due = f"slot {self.name} waits: {error}"[:300], time.monotonic() + self.pauses.pause()

    @property
    def backlog(self) -> int:
        """Bytes in segments that Kafka has not acknowledged."""
        segment, offset, _ = checkpoint(self.folder)
        return sum(
            path.stat().st_size - (offset if path.name == segment else 0)
            for path in segments(self.folder)
            if path.name >= segment
        )

    def _next(self, path: Path) -> None:
        assert self.reader is not None
        if self.reader.left:  # its writer cut what was torn; what is left is what the disk altered
            self._damaged(1)
        self.reader.close()
        self.finished.append(self.reader.path)
        self.reader = SegmentReader(path)

    def _damaged(self, count: int) -> None:
        DAMAGED.labels(self.name).inc(count)
        log.error("the disk gave back altered spool records", slot=self.name, records=count)


class Forwarder:
    """Drains all slots of this host, those without a living worker too."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._objects = Objects(settings)
        self._headers = HeaderMaker()
        self.meter = Meter()
        self._slots: dict[str, Slot] = {}
        self._looked = 0.0
        self._said, self._said_at = "", 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Forward until told to stop; then to the end, so that a stopped scorer leaves an empty spool."""
        lock, saying = await self._sole(stop), asyncio.create_task(self._keep_saying())
        saying.add_done_callback(fatal)
        try:
            await self._carry(stop)
        finally:
            saying.cancel()
            os.close(lock)

    async def _carry(self, stop: asyncio.Event) -> None:
        backoff = Backoff(_FIRST_PAUSE_S)
        while not stop.is_set():
            try:
                async with Producer(self._settings, linger_ms=0, max_batch_size=_BATCH_BYTES) as producer:
                    while not stop.is_set():
                        busy = await self._round(producer)
                        await _pause(stop, _LINGER_S if busy else _IDLE_S)
                    self._look_for_slots()
                    while await self._round(producer):
                        pass
                    self._look_for_slots()
            except Exception as error:  # its kinds have no common base; all others go on
                if not (is_away(error) or isinstance(error, (Refusal, OSError))):
                    raise
                await self._wait(error, backoff.pause(), stop)

    async def _wait(self, error: Exception, delay: float, stop: asyncio.Event) -> None:
        """Kafka is away or the disk fails, nothing is lost, all is taken again from the checkpoint."""
        log.warning("the log is delayed", error=f"{type(error).__name__}: {error}"[:300])
        for slot in self._slots.values():
            slot.again()
        self._say(str(error)[:300])
        await _pause(stop, delay)

    async def _round(self, producer: Producer) -> bool:
        """One piece of every slot."""
        if time.monotonic() - self._looked > _LOOK_FOR_SLOTS_S:
            self._look_for_slots()
        sent = [await self._forward(slot, producer) for slot in tuple(self._slots.values())]
        return any(sent)

    async def _forward(self, slot: Slot, producer: Producer) -> int:
        if slot.due > time.monotonic() or slot.still() or not slot.open():
            return 0
        writer, records, numbers = slot.take()
        if not records:
            if slot.finished:
                slot.acknowledged(slot.seq)
            return 0
        try:
            outgoing = [await self._outgoing(r, writer, seq) for r, seq in zip(records, numbers, strict=True)]
        except (Refusal, OSError) as error:  # of the object store, which takes what is large
            slot.hold(error)
            return 0
        slot.held = ""
        await producer.write(InferenceLogged.topic.name, outgoing)
        slot.acknowledged(numbers[-1])
        LOGGED.labels(slot.name).inc(len(records))
        return len(records)

    async def _outgoing(self, record: LogRecord, writer: str, seq: int) -> tuple[bytes, bytes, Headers]:
        said = record.described()
        self._weigh(said, len(record.request) + len(record.response) + len(record.head))
        record = await offload(record, self._objects)
        key, headers = record.inference_id.encode(), self._headers.headers(record, said)
        return key, record.value(writer, seq), headers

    def _weigh(self, said: dict[str, Any], size: int) -> None:
        """What this process uses is shared out by how much it carries of whom."""
        origin = Origin(*(said[name] for name in Origin.__slots__))
        self.meter.account(origin).own_s += _RECORD_S + size * _BYTE_S

    def _look_for_slots(self) -> None:
        self._looked = time.monotonic()
        for slot in self._find_slots():
            slot.leave()
        self._say("; ".join(slot.held for slot in self._slots.values() if slot.held)[:300])

    def _find_slots(self) -> list[Slot]:
        folders = sorted(self._settings.spool_folder.glob("*/"))
        return [self._slots.setdefault(folder.name, Slot(folder)) for folder in folders]

    async def _keep_saying(self) -> None:
        """A broker that says nothing is waited for without end, at the start and in a write: what waits is told
        meanwhile, too."""
        while True:
            with suppress(OSError):  # a disk that fails is told by the round that it breaks
                self._find_slots()
                self._say(self._said)
            await asyncio.sleep(_LOOK_FOR_SLOTS_S)

    def _say(self, failing: str) -> None:
        """For the workers' metrics and health."""
        for slot in self._slots.values():
            BACKLOG.labels(slot.name).set(slot.backlog)
            ASIDE.labels(slot.name).set(aside(slot.folder))
        if failing == self._said and time.monotonic() - self._said_at < _SAY_AGAIN_S:
            return
        self._said, self._said_at = failing, time.monotonic()
        said = {"at": time.time(), "failing": failing}
        tell(self._settings.run_folder / "forwarder.json", orjson.dumps(said))

    async def _sole(self, stop: asyncio.Event) -> int:
        """Two forwarders of one host would send everything twice: wait until the other is gone."""
        self._settings.spool_folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._settings.spool_folder / "forwarder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await _pause(stop, 0.1)
        return lock


async def main(settings: ScorerSettings, stop: asyncio.Event) -> None:
    """Forward, until told to stop."""
    forwarder = Forwarder(settings)
    async with metering(forwarder.meter, settings, "forwarder"):
        await forwarder.run(stop)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


if __name__ == "__main__":
    run_child("forwarder", main, nice=BEHIND)
