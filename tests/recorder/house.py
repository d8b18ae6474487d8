"""A recorder without its streams: files, books, objects, and what works on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from sqlalchemy import text

from contracts import Column, ModelSchema, OutcomeObserved, TensorSpec
from services.kit.burial import Burial
from services.kit.context import Caller
from services.kit.db import Database
from services.kit.objects import Objects
from services.kit.stream import PartitionBatch, Record
from services.recorder import store
from services.recorder.domain.layout import Body, Head, Place, file_name, folder, table
from services.recorder.domain.observed import OUTCOMES
from services.recorder.domain.outcomes import Known, Report
from services.recorder.files import Files
from services.recorder.settings import RecorderSettings
from services.recorder.usecases.compaction import Compaction
from services.recorder.usecases.erasing import Asked, Erasing
from services.recorder.usecases.filing import Filing
from services.recorder.usecases.reading import Reading
from services.recorder.usecases.remaining import Kept
from services.recorder.usecases.rewriting import Rewriting
from services.recorder.usecases.snapshots import Snapshot, Snapshots
from services.recorder.usecases.upkeep import Upkeep
from services.recorder.usecases.withdrawing import Withdrawing
from tests.monitor.telling import outcome

AT = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
KEY = b"k" * 32
OFFICER = Caller("officer", "person", frozenset({"compliance"}), frozenset({"*"}))


@dataclass
class House:
    """Everything of a recorder that works on what it keeps."""

    db: Database
    settings: RecorderSettings
    offset: int = 0
    files: Files = field(init=False)
    objects: Objects = field(init=False)

    def __post_init__(self) -> None:
        self.files, self.objects = Files(self.settings.recorded), Objects(self.settings)
        self.upkeep = Upkeep(self.db, self.files, self.objects)
        self.reading = Reading(self.db, self.files)
        self.snapshots = Snapshots(self.db, self.files, self.objects, 1_000)
        self.filing = Filing(self.files, Burial(self.settings, "recorder"))
        rewriting = Rewriting(self.db, self.files, self.upkeep)
        self.withdrawing = Withdrawing(self.db, rewriting)
        self.erasing = Erasing(self.db, rewriting, self.withdrawing, self.upkeep, self.snapshots, KEY, Kept())

    async def learn(self, *columns: str) -> None:
        schema = ModelSchema(
            inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, len(columns))),),
            outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
            columns=tuple(Column(name=name) for name in columns), prediction="label",
        )  # fmt: skip
        insert = "INSERT INTO version VALUES ('sizes', 2, 'retail', 'threshold', CAST(:schema AS jsonb))"
        async with self.db.transaction() as tx:
            await tx.session.execute(text(insert), {"schema": schema.model_dump_json()})

    async def record(
        self, id: str, minute: int, features: dict[str, list[object]], prediction: list[float], **about: Any
    ) -> None:
        """One file of one inference; `about` is of its head."""
        columns = {
            name: np.array(values, object if any(isinstance(v, str) for v in values) else np.float64)
            for name, values in features.items()
        }
        head = self.head(id, minute, len(prediction), **about)
        await self.write([head], Body(columns, np.array(prediction), np.full(len(prediction), 0.75)))

    def head(self, id: str, minute: int, rows: int = 1, **about: Any) -> Head:
        given: dict[str, Any] = {
            "entity": None, "request_id": None, "correlation_id": None, "unit": "retail", "endpoint": "sizes",
            "use_case": "sorting", "model": "threshold", "version": 2, "variant": "champion", "mode": "rest",
            "application": "application", "latency_ms": 0.8,
        }  # fmt: skip
        return Head(inference_id=id, received_at=AT + timedelta(minutes=minute), rows=rows, **given | about)

    async def many(self, heads: list[Head]) -> None:
        """One file of inferences of some rows, each with a number of its own for a feature."""
        rows = sum(head.rows for head in heads)
        sizes = np.random.default_rng(self.offset).normal(size=rows)
        await self.write(heads, Body({"size": sizes}, np.ones(rows), None))

    async def write(
        self, heads: list[Head], body: Body, payloads: dict[str, list[str]] | None = None, without: Sequence[str] = ()
    ) -> None:
        """`without`: columns that its file lacks, as one of before there were any."""
        self.offset += 10
        place = Place(f"{folder(heads[0].endpoint, heads[0].received_at)}/{file_name(0, self.offset, self.offset + 9)}")
        made = table(heads, body)
        size = self.files.write(place, [made])
        new = store.NewFile(place.path, heads[0].endpoint, heads[0].unit, 0, self.offset, self.offset + 9,
                            made.num_rows, tuple(heads), size, payloads=payloads or {})  # fmt: skip
        async with self.db.transaction() as tx:
            await store.add_file(tx.session, new)
        await self.upkeep.place()
        if without:
            pq.write_table(made.drop_columns(list(without)), self.settings.inferences / place.path)

    async def observe(self, id: str, row: int, label: float | str | None, value: float | None = None) -> None:
        async with self.db.transaction(unit="*") as tx:
            report = Report(id, row, label, value, "somebody", None)
            await store.report(tx.session, [report])
            known = [Known(report, "retail", "sizes", 10, 1, AT)]
            await store.settle(tx.session, known, [None], AT)

    def observed(
        self, id: str, label: float | str | None, minute: int = 0, endpoint: str = "sizes", **about: Any
    ) -> OutcomeObserved:
        """What the join says of a row, so many minutes after the hour of the decisions here."""
        at = AT + timedelta(hours=1, minutes=minute)
        given = {"inference_id": id, "use_case": "sorting", "model": "threshold", "version": 2, "received_at": AT,
                 "reported_at": at, "observed_at": at}  # fmt: skip
        return outcome(endpoint, label, 1.0, **given | about)

    async def fold(self, *events: OutcomeObserved, first: int = 0, fails: bool = False) -> None:
        """One batch of the topic, from an offset on; its files are not in their places yet."""
        records = [Record(first + n, 0, b"", event.to_json(), []) for n, event in enumerate(events)]
        end = first + len(records)
        async with self.db.transaction() as tx:
            await self.filing.fold(tx, PartitionBatch("outcome.observed", 0, first, end, end, records))
            if fails:
                raise ConnectionError("PostgreSQL is away")

    async def write_outcomes(self, *events: OutcomeObserved) -> None:
        """A batch of outcomes, in its places."""
        self.offset += 1_000
        await self.fold(*events, first=self.offset)
        await self.upkeep.place()

    async def freeze(self, rows_at_most: int = 1_000) -> Snapshot:
        made = Snapshots(self.db, self.files, self.objects, rows_at_most)
        return await made.make("sizes", "threshold", None)

    async def snapshot(self, rows_at_most: int = 1_000) -> pa.Table:
        made = await self.freeze(rows_at_most)
        found = pq.read_table(pa.BufferReader(await self.objects.get(made.digest)))
        truths = (pair for pair in zip(found["label"].to_pylist(), found["label_text"].to_pylist(), strict=True))
        assert (made.rows, made.labelled) == (found.num_rows, sum(any(v is not None for v in each) for each in truths))
        return found

    def compaction(self, bytes_at_most: int = 2**27) -> Compaction:
        return Compaction(self.db, self.files, self.upkeep, bytes_at_most, timedelta(minutes=15))

    async def compact(self, bytes_at_most: int = 2**27) -> None:
        while await self.compaction(bytes_at_most).step():
            pass

    async def erase(self, entity: str, use_case: str | None = None) -> store.Erasure:
        """Ask, and do all of it."""
        asked = await self.erasing.ask(OFFICER, Asked(entity, use_case, None, "as the law says"))
        assert await self.erasing.go_on()
        return (await self.erasing.look(asked.id))[0]

    def outcomes(self) -> list[tuple[str, int, int, float | str | None]]:
        """What a stranger reads of outcomes: inference, row, revision and label, in order."""
        if not self.settings.outcomes.exists():
            return []
        found = ds.dataset(self.settings.outcomes, OUTCOMES, partitioning="hive").to_table()
        rows = found.sort_by([(name, "ascending") for name in ("inference_id", "row", "revision")]).to_pylist()
        return [(r["inference_id"], r["row"], r["revision"], r["label_text"] or r["label"]) for r in rows]

    def lying(self) -> list[tuple[str, int]]:
        """What a stranger reads from the folder: inference and row, in order."""
        found = ds.dataset(self.settings.inferences, partitioning="hive").to_table()
        if not found.num_rows:
            return []
        return sorted(zip(found["inference_id"].to_pylist(), found["row"].to_pylist(), strict=True))

    def names(self) -> list[str]:
        """The files in their places."""
        return sorted(path.name for path in self.settings.inferences.glob("endpoint=*/*/*/*.parquet"))
