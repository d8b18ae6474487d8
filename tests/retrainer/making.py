"""Builders: a small package with a recipe that learns, recorded rows, and what the catalog says of them."""

import io
import zipfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from sqlalchemy import text

from contracts import (
    Column,
    Event,
    ModelRegistered,
    ModelSchema,
    RetrainingCompleted,
    RetrainingRequested,
    Scan,
    TensorSpec,
    Training,
)
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.ids import now, uuid7
from services.kit.objects import Objects
from services.retrainer.domain import Job
from services.retrainer.gateway import NoSnapshot, Recorder, Snapshot
from services.retrainer.settings import RetrainerSettings
from services.retrainer.usecases import Retrainer
from services.retrainer.workshop import Workshop

from .threshold_recipe import model_of

ENGINEER = Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"}))
OTHER_UNIT = Caller("other-unit", "person", frozenset({"engineer"}), frozenset({"wealth"}))
RECIPE = Path(__file__).with_name("threshold_recipe.py").read_text()
MANIFEST = {
    "name": "threshold", "format": "onnx", "model": "model.onnx", "recipe": "recipe.py", "training": "training.parquet",
    "label": "truth", "prediction": "label", "score": "probabilities",
    "columns": [{"name": "size", "kind": "numeric"}, {"name": "noise", "kind": "numeric"}],
}  # fmt: skip
SCHEMA = ModelSchema(
    inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 2)),),
    outputs=(
        TensorSpec(name="label", datatype="INT64", shape=(-1,)),
        TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 2)),
    ),
    columns=(Column(name="size"), Column(name="noise")),
    prediction="label",
    score="probabilities",
)


AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_TIME = pa.timestamp("us", tz="UTC")


class Story(TypedDict):
    correlation_id: str
    traceparent: str


STORY = Story(correlation_id="a-story-of-a-test", traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")


def package(recipe: str | None = RECIPE, threshold: float = 0.2, **manifest: object) -> bytes:
    """A package whose model cuts at `threshold`."""
    said = {**MANIFEST, **manifest}
    members = {"fairlead.yaml": yaml.safe_dump(said).encode(), "model.onnx": model_of(threshold)}
    members["training.parquet"] = b"reference rows"
    if recipe is None:
        said.pop("recipe")
        members["fairlead.yaml"] = yaml.safe_dump(said).encode()
    else:
        members["recipe.py"] = recipe.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def snapshot(rows: int = 800, threshold: float = 0.6, labelled: int | None = None, without: str = "") -> bytes:
    """Recorded rows as the recorder freezes them, in which the truth is `size > threshold`."""
    random = np.random.default_rng(rows)
    columns = {"size": random.random(rows), "noise": random.random(rows)}
    truth = [float(v > threshold) if labelled is None or n < labelled else None for n, v in enumerate(columns["size"])]
    columns.pop(without, None)
    return frozen({name: values.tolist() for name, values in columns.items()}, truth)


def frozen(columns: Mapping[str, Sequence[float | str | None]], truth: Sequence[float | str | None]) -> bytes:
    """A snapshot of rows of these columns, each of an inference of its own."""
    ids = [f"inference-{n}" for n in range(len(truth))]
    about = {"inference_id": ids, "row": [0] * len(truth), "received_at": [now()] * len(truth)}
    table = pa.table(about | {
        "label": _numbers(truth), "label_text": _texts(truth),
        "features": pa.StructArray.from_arrays([_numbers(each) for each in columns.values()], names=list(columns)),
        "texts": pa.StructArray.from_arrays([_texts(each) for each in columns.values()], names=list(columns)),
    })  # fmt: skip
    packed = io.BytesIO()
    pq.write_table(table, packed)
    return packed.getvalue()


def decided(
    rows: int = 400, threshold: float = 0.4, truth: float = 0.6, labelled: int | None = None, first: datetime = AT,
    params: Sequence[str | None] | None = None,
) -> bytes:  # fmt: skip
    """Recorded rows, one a minute, that a version cut at `threshold`: 1 the first half, 2 the second. `params`, of the
    first rows; None: a snapshot of before there were any."""
    random = np.random.default_rng(rows)
    size, noise = random.random(rows), random.random(rows)
    table = pq.read_table(pa.BufferReader(frozen(
        {"size": size.tolist(), "noise": noise.tolist()},
        [float(v > truth) if labelled is None or n < labelled else None for n, v in enumerate(size)],
    )))  # fmt: skip
    at = [first + timedelta(minutes=n) for n in range(rows)]
    said = (size > threshold).astype(float)
    table = table.set_column(table.schema.get_field_index("received_at"), "received_at", pa.array(at, _TIME))
    table = table.append_column("version", pa.array([1 + (n >= rows // 2) for n in range(rows)], pa.int32()))
    table = table.append_column("prediction", pa.array(said))
    table = table.append_column("prediction_text", pa.nulls(rows, pa.string()))
    table = table.append_column("score", pa.array(np.where(said > 0, 0.9, 0.1)))
    if params is not None:
        table = table.append_column("params", pa.array([*params, *[None] * (rows - len(params))], pa.string()))
    packed = io.BytesIO()
    pq.write_table(table, packed, row_group_size=150)
    return packed.getvalue()


def _numbers(values: Sequence[float | str | None]) -> pa.Array:
    return pa.array([None if isinstance(v, str) else v for v in values], pa.float64())


def _texts(values: Sequence[float | str | None]) -> pa.Array:
    return pa.array([v if isinstance(v, str) else None for v in values], pa.string())


def registered(
    digest: str, *, version: int = 1, training: Training | None = None, **more: Any
) -> ModelRegistered:  # fmt: skip
    given = ModelRegistered(
        model="threshold", version=version, unit="retail", digest=digest, format="onnx", executes_code=False,
        model_schema=SCHEMA, baseline_digest=None, scan=Scan(verdict="clean", scanner="none"),
        training=training or Training(), retrainable=True, registered_by="data-scientist",
    )  # fmt: skip
    return given.model_copy(update=more)


def requested(**changes: object) -> RetrainingRequested:
    return RetrainingRequested.model_validate({
        "retraining_id": uuid7(), "model": "threshold", "version": 1, "endpoint": "sizes", "use_case": "sorting",
        "cause": "drift", "cause_id": "a-drift", "requested_by": "service:governor", **changes,
    })  # fmt: skip


def job(id: UUID | None = None) -> Job:
    return Job(
        id=id or uuid7(), kind="retraining", unit="retail", model="threshold", version=1, endpoint="sizes",
        use_case="sorting", since=None, requested_by="service:governor", state="running", reason=None, attempt=1,
        orphaned=0, requested_at=now(), started_at=now(), ended_at=None, result={}, **STORY,
    )  # fmt: skip


class Shelf(Recorder):
    """Snapshots from a shelf instead of a recorder: the object store holds them already."""

    def __init__(self, objects: Objects, data: bytes | None) -> None:
        self._objects = objects
        self.data = data
        self.asked = 0

    async def snapshot(self, endpoint: str, model: str, since: datetime | None) -> Snapshot:
        self.asked += 1
        if self.data is None:
            raise NoSnapshot("the recorder makes no snapshot: there are no rows")
        return Snapshot(await self._objects.put(self.data), 1)


class House:
    """A retrainer with its store, and the moves of a story."""

    def __init__(self, db: Database, settings: RetrainerSettings, objects: Objects) -> None:
        self.db = db
        self.objects = objects
        self.shelf = Shelf(objects, snapshot())
        self.workshop = Workshop(settings, objects, self.shelf)
        self.retrainer = self.another()

    def another(self) -> Retrainer:
        """Another process on the same database."""
        return Retrainer(self.db, self.workshop)

    async def hears(self, handle: Callable[[Any], Awaitable[None]], event: Event, unit: str = "retail") -> None:
        with use(Context(system("retrainer", unit), **STORY)):
            await handle(event)

    async def knows(self, data: bytes | None = None, **about: Any) -> ModelRegistered:
        """A version is registered."""
        model = registered(await self.objects.put(data or package()), **about)
        await self.hears(self.retrainer.learn_version, model)
        return model

    async def is_asked(self, **changes: Any) -> RetrainingRequested:
        asked = requested(**changes)
        await self.hears(self.retrainer.take_request, asked)
        return asked

    async def job(self, id: UUID, caller: Caller = ENGINEER) -> Job:
        with use(Context(caller)):
            return await self.retrainer.job(id, "retraining")

    async def said(self) -> list[tuple[dict[str, str], RetrainingCompleted]]:
        """What was said so far, with its headers."""
        async with self.db.chassis() as session:
            find = "SELECT headers, value FROM outbox WHERE topic = 'retraining.completed' ORDER BY number"
            rows = (await session.execute(text(find))).all()
        return [(dict(row.headers), RetrainingCompleted.from_json(row.value.encode())) for row in rows]
