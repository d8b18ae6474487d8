"""Folds batches of the inference log into partial windows; counts and offset commit together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from services.kit.burial import Burial
from services.kit.db import Tx
from services.kit.errors import Invalid, NotFound
from services.kit.explaining import why_unexplained
from services.kit.ids import now
from services.kit.logged import Head, Logged, note, noted, readable
from services.kit.payloads import Opening, Payload, Payloads
from services.kit.repeats import Repeats, Seen
from services.kit.stream import PartitionBatch, Record

from .. import metrics, store
from ..domain.sample import most_rows
from ..domain.service.slots import Answered, Place
from ..domain.service.slots import counted as by_minute
from ..domain.windows import Part, moment, window_start
from ..settings import MonitorSettings
from ..store import slots
from .summary import NOBODY, Counted, Unfit, Wanted, summary
from .versions import Versions, Watched


@dataclass(slots=True)
class Inference:
    """One record, as far as counting needs it."""

    record: Record
    head: Head
    at_s: float
    payload: Payload
    replayed: bool = False
    counted: bool = False
    """Its rows are in a window since it became a dead letter: only its columns are missing there."""

    @property
    def id(self) -> str:
        return self.head.inference_id


Letters = list[tuple[Record, BaseException | str]]

_COUNTED = "counted"
_REPLAYED = "replayed"


class Counting:
    """The handler of `inference.logged`."""

    def __init__(self, settings: MonitorSettings, versions: Versions, payloads: Payloads, burial: Burial) -> None:
        self._settings = settings
        self._versions = versions
        self._payloads = payloads
        self._burial = burial
        self._repeats = Repeats()

    async def fold(self, tx: Tx, batch: PartitionBatch) -> None:
        """Count a batch's new inferences into parts of windows."""
        seen = await self._repeats.open(tx.session, batch.partition, batch.first)
        letters: Letters = []
        latest = 0.0
        groups: dict[tuple[str, int, str], list[Inference]] = defaultdict(list)
        new = await self._new(tx, batch, seen, letters)
        await slots.add(tx.session, batch.partition, by_minute(_answered(each) for each in new if not each.counted))
        for inference in new:
            head = inference.head
            groups[head.endpoint, head.version, head.unit].append(inference)
            latest = max(latest, inference.at_s)
        for (endpoint, version, unit), inferences in groups.items():
            await self._count(tx, batch, endpoint, version, unit, inferences, letters)
        if latest:
            await store.note_event_time(tx.session, batch.partition, moment(latest))
        await seen.save(tx.session, batch.next)
        await self._burial.bury(batch, letters)

    async def _new(self, tx: Tx, batch: PartitionBatch, seen: Seen, letters: Letters) -> list[Inference]:
        """What was never counted: by writer and number, and a replayed dead letter by its id."""
        fresh: list[Inference] = []
        replays: dict[str, Inference] = {}
        opening = self._payloads.begin()
        for logged in readable(batch, self._burial, letters):
            if not logged.replayed and not seen.is_new(logged.writer, logged.seq):
                tx.then.append(metrics.REPEATS.inc)
            elif logged.body.get("shadow_of") is not None:  # nobody was answered so
                tx.then.append(metrics.SHADOWS.inc)
            elif inference := await self._inference(logged, opening, letters):
                if logged.replayed:
                    replays.setdefault(inference.id, inference)
                else:
                    fresh.append(inference)
        done = await noted(tx.session, _REPLAYED, list(replays))
        counted = await noted(tx.session, _COUNTED, list(replays))
        tx.then.append(partial(metrics.REPEATS.inc, len(done)))
        return fresh + [replace(each, counted=id in counted) for id, each in replays.items() if id not in done]

    async def _inference(self, logged: Logged, opening: Opening, letters: Letters) -> Inference | None:
        try:
            head, record = logged.head(), logged.record
            watched = await self._versions.find(head.endpoint, head.version)
            payload = await opening.open(logged, watched.schema)
            return Inference(record, head, head.received_at.timestamp(), payload, logged.replayed)
        except (Invalid, NotFound, KeyError, TypeError, ValueError) as error:
            letters.append((logged.record, error))
            return None

    async def _count(
        self, tx: Tx, batch: PartitionBatch, endpoint: str, version: int, unit: str,
        inferences: Sequence[Inference], letters: Letters,
    ) -> None:  # fmt: skip
        watched = await self._versions.find(endpoint, version)
        length = self._versions.settings(endpoint).window_s
        windows: dict[float, list[Inference]] = defaultdict(list)
        for inference in inferences:
            windows[window_start(inference.at_s, length)].append(inference)
        wanted = self._wanted(watched, endpoint)
        for start, members in sorted(windows.items()):
            part, unfit = self._summarise(watched, members, wanted)
            await self._note(tx, members, unfit, letters)
            key = store.WindowKey(endpoint, version, unit, moment(start), moment(start + length))
            await store.add_part(tx.session, key, batch.partition, batch.first, part)
            tx.then.append(partial(_tell, endpoint, part.rows, members[-1].at_s))

    async def _note(self, tx: Tx, members: Sequence[Inference], unfit: Unfit, letters: Letters) -> None:
        """A dead letter whose rows were counted is known by its id, and so is a replayed one that was understood."""
        strange = {place for place, _ in unfit}
        letters.extend((members[place].record, reason) for place, reason in unfit)
        await note(tx.session, _COUNTED, [members[place].id for place in strange])
        understood = [m.id for place, m in enumerate(members) if m.replayed and place not in strange]
        await note(tx.session, _REPLAYED, understood)

    def _wanted(self, watched: Watched, endpoint: str) -> Wanted:
        """How many decisions of a window are to be explained; none where it is off, or the log has not all columns."""
        settings, schema = self._versions.settings(endpoint), watched.schema
        if settings.attributions == "off" or schema is None or why_unexplained(schema):
            return NOBODY
        most = most_rows(self._settings.attributed_per_s, settings.window_s, len(schema.columns))
        return Wanted(most, settings.attribution_share)

    def _summarise(self, watched: Watched, members: Sequence[Inference], wanted: Wanted) -> tuple[Part, Unfit]:
        """All rows are counted; those that do not fit their model's schema are counted, but not looked into."""
        counted = [
            Counted(m.payload, m.at_s, m.head.latency_ms, m.counted, m.head.variant, m.head.request_id, m.id)
            for m in members
        ]
        return summary(watched, counted, self._settings.block_rows, self._settings.blocks_per_batch, wanted)


def _answered(inference: Inference) -> Answered:
    head = inference.head
    place = Place(head.endpoint, head.unit, head.model, head.version, head.mode)
    return Answered(place, inference.at_s, inference.payload.rows, head.latency_ms)


def _tell(endpoint: str, rows: int, last_s: float) -> None:
    metrics.ROWS.labels(endpoint).inc(rows)
    metrics.BEHIND.observe(max(0.0, now().timestamp() - last_s))
