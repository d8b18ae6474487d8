"""Writes observed outcomes to Parquet: files named by offsets, their rows and the offset in one transaction."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from pydantic import ValidationError

from contracts import OutcomeObserved
from services.kit.burial import Burial
from services.kit.db import Tx
from services.kit.ids import now
from services.kit.stream import PartitionBatch, Record
from services.kit.strict import refused

from .. import metrics, store
from ..domain.layout import Place, file_name, folder
from ..domain.observed import Observation, place_of, revisions, rows_of
from ..files import Files

Letters = list[tuple[Record, BaseException | str]]


class Filing:
    """The handler of `outcome.observed`, which this service says itself: whatever was observed has an offset there."""

    def __init__(self, files: Files, burial: Burial) -> None:
        self._files = files
        self._burial = burial

    async def fold(self, tx: Tx, batch: PartitionBatch) -> None:
        """Write a batch's outcomes, but repeats, and those of decisions that are out of the books."""
        await store.share(tx.session, store.FILING)
        letters: Letters = []
        said = self._said(batch, letters)
        places = {place_of(event) for _, event in said}
        sizes = await store.sizes(tx.session, list({id for id, _ in places}))
        units = {id: unit for id, (unit, _) in sizes.items()}
        new = revisions(said, units, await store.newest_written(tx.session, places))
        files: dict[tuple[str, str], list[Observation]] = defaultdict(list)
        for each in new:
            files[folder(each.event.endpoint, each.event.observed_at), each.unit].append(each)
        for (place, unit), observations in files.items():
            await self._write(tx, batch.partition, place, unit, observations)
        await self._burial.bury(batch, letters)
        tx.then.append(partial(metrics.OUTCOMES.labels("left out").inc, len(said) - len(new)))

    def _said(self, batch: PartitionBatch, letters: Letters) -> list[tuple[int, OutcomeObserved]]:
        """Outcomes by their offsets."""
        said: list[tuple[int, OutcomeObserved]] = []
        for record in batch.records:
            if record.value is None or self._burial.for_another(record):
                continue
            try:
                said.append((record.offset, OutcomeObserved.from_json(record.value)))
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False)
                letters.append((record, refused(found, root="the value")))
        return said

    async def _write(self, tx: Tx, partition: int, place: str, unit: str, found: Sequence[Observation]) -> None:
        first, last = found[0].offset, found[-1].offset
        path = f"{place}/{file_name(partition, first, last)}"
        rows = await asyncio.to_thread(rows_of, found)
        bytes = await asyncio.to_thread(self._files.write, Place(path, kind="outcomes"), [rows])
        endpoint = found[0].event.endpoint
        new = store.NewOutcomes(path, endpoint, unit, partition, first, last, rows.num_rows, bytes, tuple(found))
        await store.add_outcomes(tx.session, new)
        tx.then.append(partial(_tell, new))


def _tell(file: store.NewOutcomes) -> None:
    metrics.FILES.inc()
    metrics.OUTCOMES.labels("written").inc(file.rows)
    observed = file.observations[-1].event.observed_at
    metrics.OUTCOMES_BEHIND.observe(max(0.0, (now() - observed).total_seconds()))
