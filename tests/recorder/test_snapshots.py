"""What a snapshot holds, from files and labels to the object in the store."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from contracts import Column, ModelSchema, Service, TensorSpec
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.objects import Objects
from services.recorder import store
from services.recorder.domain.layout import Body, Head, file_name, folder, table
from services.recorder.domain.outcomes import Known, Report
from services.recorder.files import Files
from services.recorder.settings import RecorderSettings
from services.recorder.usecases.snapshots import Snapshots

Databases = Callable[[Service], Database]
AT = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def as_the_recorder() -> Iterator[None]:
    with use(Context(system("recorder"))):
        yield


@dataclass
class House:
    """A recorder without its streams."""

    db: Database
    files: Files
    objects: Objects

    async def learn(self, *columns: str) -> None:
        schema = ModelSchema(
            inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, len(columns))),),
            outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
            columns=tuple(Column(name=name) for name in columns), prediction="label",
        )  # fmt: skip
        insert = "INSERT INTO version VALUES ('sizes', 2, 'retail', 'threshold', CAST(:schema AS jsonb))"
        async with self.db.transaction() as tx:
            await tx.session.execute(text(insert), {"schema": schema.model_dump_json()})

    async def record(self, id: str, minute: int, features: dict[str, list[object]], prediction: list[float]) -> None:
        """One file of one inference."""
        at = AT + timedelta(minutes=minute)
        head = Head(id, "sizes", "retail", "sorting", "threshold", 2, "champion", "rest", "application", None, None,
                    None, at, 0.8, len(prediction))  # fmt: skip
        columns = {
            name: np.array(values, object if any(isinstance(v, str) for v in values) else np.float64)
            for name, values in features.items()
        }
        path = f"{folder('sizes', at)}/{file_name(0, minute, minute)}"
        self.files.write(path, table([head], Body(columns, np.array(prediction), np.full(len(prediction), 0.75))))
        self.files.place(path)
        async with self.db.transaction() as tx:
            new = store.NewFile(path, "sizes", "retail", 0, minute, minute, len(prediction), (head,))
            await store.add_file(tx.session, new)

    async def observe(self, id: str, row: int, label: float | str) -> None:
        async with self.db.transaction(unit="*") as tx:
            report = Report(id, row, label, None, "somebody", None)
            await store.report(tx.session, [report])
            known = [Known(report, "retail", "sizes", 10, 1, AT)]
            await store.settle(tx.session, known, [None], AT)

    async def snapshot(self, rows_at_most: int = 1_000) -> pa.Table:
        made = await Snapshots(self.db, self.files, self.objects, rows_at_most).make("sizes", "threshold", None)
        table = pq.read_table(pa.BufferReader(await self.objects.get(made.digest)))
        truths = (pair for pair in zip(table["label"].to_pylist(), table["label_text"].to_pylist(), strict=True))
        assert (made.rows, made.labelled) == (table.num_rows, sum(any(v is not None for v in each) for each in truths))
        return table


@pytest.fixture
def house(service_db: Databases, tmp_path: Path) -> House:
    settings = RecorderSettings(home=tmp_path)
    return House(service_db("recorder"), Files(settings.inferences), Objects(settings))


async def test_a_column_may_be_called_as_what_a_snapshot_says_about_a_row(house: House) -> None:
    names = ["row", "received_at", "inference_id", "version", "prediction", "score", "label", "features", "texts"]
    await house.learn(*names)
    await house.record("one", 0, {name: [float(n), n + 0.5] for n, name in enumerate(names)}, [1.0, 0.0])
    await house.observe("one", 1, 7.0)
    rows = (await house.snapshot()).to_pylist()
    assert [row["features"] for row in rows] == [
        {name: float(n) for n, name in enumerate(names)}, {name: n + 0.5 for n, name in enumerate(names)}
    ]  # fmt: skip
    assert [(row["inference_id"], row["row"], row["received_at"]) for row in rows] == [("one", 0, AT), ("one", 1, AT)]
    assert [(row["version"], row["prediction"], row["score"]) for row in rows] == [(2, 1.0, 0.75), (2, 0.0, 0.75)]
    assert [row["label"] for row in rows] == [None, 7.0]


async def test_rows_of_many_files_come_in_order_whatever_a_column_or_a_label_is_in_each(house: House) -> None:
    await house.learn("size", "city")
    await house.record("first", 0, {"size": [1.0], "city": ["Bern"]}, [1.0])
    await house.record("second", 1, {"size": [2.0]}, [1.0])
    await house.record("third", 2, {"size": [3.0, 4.0], "city": [5.0, "Chur"]}, [1.0, 0.0])
    await house.observe("first", 0, 1.0)
    await house.observe("third", 1, "yes")
    rows = (await house.snapshot()).to_pylist()
    assert [(row["features"]["size"], row["features"]["city"], row["texts"]["city"]) for row in rows] == [
        (1.0, None, "Bern"), (2.0, None, None), (3.0, 5.0, None), (4.0, None, "Chur")
    ]  # fmt: skip
    assert [(row["label"], row["label_text"]) for row in rows] == [
        (1.0, None),
        (None, None),
        (None, None),
        (None, "yes"),
    ]


async def test_the_newest_files_that_fit_are_taken_and_one_that_is_lost_stops_nothing(house: House) -> None:
    await house.learn("size")
    for minute in range(4):
        await house.record(f"inference-{minute}", minute, {"size": [float(minute)] * 3}, [1.0] * 3)
    house.files.remove(f"{folder('sizes', AT)}/{file_name(0, 2, 2)}")
    assert (await house.snapshot(rows_at_most=6))["row"].to_pylist() == [0, 1, 2] * 2
