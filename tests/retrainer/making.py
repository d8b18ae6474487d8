"""Builders: a small package with a recipe that learns, recorded rows, and what the catalog says of them."""

import io
import zipfile
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from contracts import Column, ModelRegistered, ModelSchema, RetrainingRequested, Scan, TensorSpec, Training
from services.kit.ids import now, uuid7
from services.kit.objects import Objects
from services.retrainer.domain import Job
from services.retrainer.gateway import NoSnapshot, Snapshot

from .threshold_recipe import model_of

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
STORY = {"correlation_id": "a-story-of-a-test", "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}


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


def snapshot(rows: int = 800, threshold: float = 0.6, labelled: int | None = None) -> bytes:
    """Recorded rows in which the truth is `size > threshold`."""
    random = np.random.default_rng(rows)
    size, noise = random.random(rows), random.random(rows)
    truth = [float(value > threshold) if labelled is None or n < labelled else None for n, value in enumerate(size)]
    table = pa.table({
        "size": size, "noise": noise, "truth": pa.array(truth, pa.float64()),
        "inference_id": [f"inference-{n}" for n in range(rows)], "received_at": [now()] * rows,
    })  # fmt: skip
    packed = io.BytesIO()
    pq.write_table(table, packed)
    return packed.getvalue()


def registered(digest: str, *, version: int = 1, training: Training | None = None) -> ModelRegistered:
    return ModelRegistered(
        model="threshold", version=version, unit="retail", digest=digest, format="onnx", executes_code=False,
        model_schema=SCHEMA, baseline_digest=None, scan=Scan(verdict="clean", scanner="none"),
        training=training or Training(), retrainable=True, registered_by="data-scientist",
    )  # fmt: skip


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


class Shelf:
    """Snapshots from a shelf instead of a recorder: the object store holds them already."""

    def __init__(self, objects: Objects, data: bytes | None) -> None:
        self._objects = objects
        self._data = data
        self.asked = 0

    async def snapshot(self, endpoint: str, model: str, since: object) -> Snapshot:
        self.asked += 1
        if self._data is None:
            raise NoSnapshot("the recorder makes no snapshot: there are no rows")
        return Snapshot(await self._objects.put(self._data), 1)
