"""Folds batches of the inference log into partial windows; counts and offset commit together."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from services.kit.burial import Burial
from services.kit.db import Tx
from services.kit.errors import Invalid, NotFound
from services.kit.ids import now
from services.kit.payloads import Payload, Payloads
from services.kit.repeats import Repeats
from services.kit.stream import PartitionBatch, Record

from .. import metrics, store
from ..domain.windows import Part, moment, window_start
from ..settings import MonitorSettings
from .summary import Counted, summary
from .versions import Versions, Watched


@dataclass(frozen=True, slots=True)
class Inference:
    """One record, as far as counting needs it."""

    record: Record
    endpoint: str
    version: int
    unit: str
    at_s: float
    latency_ms: float
    payload: Payload


Letters = list[tuple[Record, BaseException | str]]


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
        for record, logged in self._read(batch, letters):
            if not seen.is_new(logged["writer"], logged["seq"]):
                metrics.REPEATS.inc()
                continue
            if inference := await self._inference(record, logged, letters):
                groups[inference.endpoint, inference.version, inference.unit].append(inference)
                latest = max(latest, inference.at_s)
        for (endpoint, version, unit), inferences in groups.items():
            await self._count(tx, batch, endpoint, version, unit, inferences, letters)
        if latest:
            await store.note_event_time(tx.session, batch.partition, moment(latest))
        await seen.save(tx.session, batch.next)
        await self._burial.bury(batch, letters)

    def _read(self, batch: PartitionBatch, letters: Letters) -> Iterator[tuple[Record, dict[str, Any]]]:
        for record in batch.records:
            if record.value is None or self._burial.for_another(record):
                continue
            try:
                logged = orjson.loads(record.value)
                _ = logged["writer"], logged["seq"] + 0
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                letters.append((record, Invalid(f"not an inference.logged: {type(error).__name__} {error}")))
                continue
            yield record, logged

    async def _inference(self, record: Record, logged: dict[str, Any], letters: Letters) -> Inference | None:
        try:
            at = datetime.fromisoformat(logged["received_at"])
            if at.tzinfo is None:
                at = at.replace(tzinfo=UTC)
            return Inference(
                record, str(logged["endpoint"]), int(logged["version"]), str(logged["unit"]), at.timestamp(),
                float(logged["latency_ms"]), await self._payloads.open(logged),
            )  # fmt: skip
        except (Invalid, NotFound, KeyError, TypeError, ValueError) as error:
            letters.append((record, error))
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
        for start, members in sorted(windows.items()):
            part, unfit = self._summarise(watched, members)
            letters.extend(unfit)
            key = store.WindowKey(endpoint, version, unit, moment(start), moment(start + length))
            await store.add_part(tx.session, key, batch.partition, batch.first, part)
            metrics.ROWS.labels(endpoint).inc(part.rows)
            metrics.BEHIND.observe(max(0.0, now().timestamp() - members[-1].at_s))

    def _summarise(self, watched: Watched, members: Sequence[Inference]) -> tuple[Part, Letters]:
        """All rows are counted; those that do not fit their model's schema are counted, but not looked into."""
        counted = [Counted(m.payload, m.at_s, m.latency_ms) for m in members]
        cuts = (self._settings.block_rows, self._settings.blocks_per_batch)
        part, unfit = summary(watched, counted, *cuts)
        return part, [(members[place].record, reason) for place, reason in unfit]
