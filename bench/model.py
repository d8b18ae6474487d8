"""The demo's model as a scorer serves it, and requests for it out of real rows."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import orjson
import yaml

from contracts import Column, Datatype, Format, ModelSchema, TensorSpec
from examples.census import build, rows

DATATYPES: dict[Format, Datatype] = {"onnx": "FP32", "sklearn": "FP64"}
"""Of its input, as the catalog would have it."""


@dataclass(frozen=True)
class Model:
    """A package and what is in it."""

    package: bytes
    data: bytes
    """The model file."""
    schema: ModelSchema
    format: Format = "onnx"


def census(folder: Path, format: Format = "onnx") -> Model:
    """Trained anew from the rows of 2015: always the same bytes, as ONNX or as scikit-learn's own."""
    package = next(p for p in build.build(folder) if ("sklearn" in p.name) == (format == "sklearn")).read_bytes()
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        manifest = yaml.safe_load(opened.read("fairlead.yaml"))
        data = opened.read(manifest["model"])
    columns = tuple(Column.model_validate(column) for column in manifest["columns"])
    schema = ModelSchema(
        inputs=(TensorSpec(name="X", datatype=DATATYPES[format], shape=(-1, len(columns))),),
        outputs=(
            TensorSpec(name="label", datatype="INT64", shape=(-1,)),
            TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 2)),
        ),
        columns=columns, prediction=manifest["prediction"], score=manifest["score"],
    )  # fmt: skip
    return Model(package, data, schema, format)


def bodies(count: int, rows_each: int = 1, format: Format = "onnx") -> list[bytes]:
    """V2 requests of real people, as applications write them."""
    table = rows.shuffled(rows.year(2016), seed=7).select(rows.COLUMNS).slice(0, count * rows_each)
    people = [list(row.values()) for row in table.to_pylist()]
    made: list[bytes] = []
    for start in range(0, len(people), rows_each):
        data = [float(value) for person in people[start : start + rows_each] for value in person]
        tensor = {"name": "X", "shape": [rows_each, len(rows.COLUMNS)], "datatype": DATATYPES[format], "data": data}
        made.append(orjson.dumps({"inputs": [tensor]}))
    return made
