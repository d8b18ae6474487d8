"""Folds batches of the inference log into partial windows; counts and offset commit together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from services.kit.burial import Burial
from services.kit.db import Tx
from services.kit.errors import Invalid, NotFound
from services.kit.explaining import why_unexplained
from services.kit.ids import now
from services.kit.logged import Logged, Origin, note, noted, readable
from services.kit.payloads import Opening, Payloads
from services.kit.repeats import Repeats, Seen
from services.kit.rulebook import Rulebook
from services.kit.stream import PartitionBatch, Record

from .. import metrics, store
from ..domain.sample import most_rows
from ..domain.service.slots import Counts, Place, by, by_minute
from ..domain.windows import Part, by_start, moment
from ..settings import MonitorSettings
from ..store import slots
from .comparing import Comparing
from .summary import NOBODY, Inference, Unfit, Wanted, summary
from .versions import Glance, Versions, Watched

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
        self._comparing = Comparing(versions, payloads)
        self._repeats = Repeats()

    async def fold(self, tx: Tx, batch: PartitionBatch) -> None:
        """Count a batch's new inferences into parts of windows."""
        seen = await self._repeats.open(tx.session, batch.partition, batch.first)
        versions = Glance(self._versions)
        letters: Letters = []
        opening, copies = self._payloads.begin(), list[Logged]()
        new = await self._new(tx, batch, seen, versions, opening, copies, letters)
        if copies:
            await self._comparing.count(tx, batch.partition, copies, versions, opening, letters)
        await slots.add(tx.session, batch.partition, _by_minute(each for each in new if not each.known))
        groups: dict[tuple[str, int, str], list[Inference]] = defaultdict(list)
        for inference in new:
            origin = inference.head.origin
            groups[origin.endpoint, origin.version, origin.unit].append(inference)
        for (endpoint, version, unit), inferences in groups.items():
            watched = await versions.find(endpoint, version)
            await self._count(tx, batch, watched, endpoint, version, unit, inferences, letters)
        if new:
            latest_s = max(inference.head.at_s for inference in new)
            await store.note_event_time(tx.session, batch.partition, moment(latest_s))
        await seen.save(tx.session, batch.next)
        await self._burial.bury(batch, letters)

    async def _new(
        self, tx: Tx, batch: PartitionBatch, seen: Seen, versions: Glance, opening: Opening, copies: list[Logged],
        letters: Letters,
    ) -> list[Inference]:  # fmt: skip
        """What was never counted: by writer and number, and a replayed dead letter by its id. What shadows would have
        answered is added to `copies`."""
        fresh: list[Inference] = []
        replays: dict[str, Inference] = {}
        for logged in readable(batch, self._burial, letters):
            if not logged.replayed and not seen.is_new(logged.writer, logged.seq):
                tx.then.append(metrics.REPEATS.inc)
            elif logged.body.get("shadow_of") is not None:  # nobody was answered so
                tx.then.append(metrics.SHADOWS.inc)
                if "answered" in logged.body:  # a scorer of an earlier release does not say it
                    copies.append(logged)
            elif inference := await _opened(logged, versions, opening, letters):
                if logged.replayed:
                    replays.setdefault(inference.id, inference)
                else:
                    fresh.append(inference)
        done = await noted(tx.session, _REPLAYED, list(replays))
        counted = await noted(tx.session, _COUNTED, list(replays))
        tx.then.append(partial(metrics.REPEATS.inc, len(done)))
        return fresh + [replace(each, known=id in counted) for id, each in replays.items() if id not in done]

    async def _count(
        self, tx: Tx, batch: PartitionBatch, watched: Watched, endpoint: str, version: int, unit: str,
        inferences: Sequence[Inference], letters: Letters,
    ) -> None:  # fmt: skip
        length = self._versions.settings(endpoint).window_s
        wanted = self._wanted(watched, endpoint)
        for start, places in by_start(np.array([each.head.at_s for each in inferences]), length):
            members = [inferences[place] for place in places.tolist()]
            part, unfit = self._summarise(watched, members, wanted)
            await self._note(tx, members, unfit, letters)
            key = store.WindowKey(endpoint, version, unit, moment(start), moment(start + length))
            await store.add_part(tx.session, key, batch.partition, batch.first, part)
            tx.then.append(partial(_tell, endpoint, part.rows, members[-1].head.at_s))

    async def _note(self, tx: Tx, members: Sequence[Inference], unfit: Unfit, letters: Letters) -> None:
        """A dead letter whose rows were counted is known by its id, and so is a replayed one that was understood."""
        strange = {place for place, _ in unfit}
        letters.extend((members[place].record, reason) for place, reason in unfit)
        await note(tx.session, _COUNTED, [members[place].id for place in strange])
        understood = [m.id for place, m in enumerate(members) if m.replayed and place not in strange]
        await note(tx.session, _REPLAYED, understood)

    def _wanted(self, watched: Watched, endpoint: str) -> Wanted:
        """How many decisions of a window are to be explained; none where it is off, or the log has not all columns.
        And which rules they must keep."""
        settings, schema = self._versions.settings(endpoint), watched.schema
        if schema is None:
            return NOBODY
        rulebook = Rulebook.of(watched.facts, settings.rules) if settings.rules and watched.facts else None
        if settings.attributions == "off" or why_unexplained(schema):
            return Wanted(0, 0.0, rulebook)
        most = most_rows(self._settings.attributed_per_s, settings.window_s, len(schema.columns))
        return Wanted(most, settings.attribution_share, rulebook)

    def _summarise(self, watched: Watched, members: Sequence[Inference], wanted: Wanted) -> tuple[Part, Unfit]:
        """All rows are counted; those that do not fit their model's schema are counted, but not looked into."""
        return summary(watched, members, self._settings.block_rows, self._settings.blocks_per_batch, wanted)


async def _opened(logged: Logged, versions: Glance, opening: Opening, letters: Letters) -> Inference | None:
    """The record's head and its rows, which is all of it that is kept."""
    try:
        head = logged.head()
        version = head.origin.endpoint, head.origin.version
        watched = versions.known.get(version) or await versions.find(*version)
        payload = await opening.open(logged, watched.schema)
        return Inference(logged.record, head, payload, logged.replayed)
    except (Invalid, NotFound, KeyError, TypeError, ValueError) as error:
        letters.append((logged.record, error))
        return None


def _by_minute(inferences: Iterable[Inference]) -> Mapping[tuple[Place, float], Counts]:
    groups: dict[Origin, list[Inference]] = defaultdict(list)
    for inference in inferences:
        groups[inference.head.origin].append(inference)
    return by(pair for origin, members in groups.items() for pair in _of_origin(origin, members).items())


def _of_origin(origin: Origin, members: Sequence[Inference]) -> dict[tuple[Place, float], Counts]:
    place = Place(origin.endpoint, origin.unit, origin.model, origin.version, origin.mode)
    at_s, latency_ms = np.array([(each.head.at_s, each.head.latency_ms) for each in members]).T
    return by_minute(place, at_s, np.array([each.payload.rows for each in members]), latency_ms)


def _tell(endpoint: str, rows: int, last_s: float) -> None:
    metrics.ROWS.labels(endpoint).inc(rows)
    metrics.BEHIND.observe(max(0.0, now().timestamp() - last_s))
