"""What runs in the sandbox: it opens a stranger's model and rows and says what they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from contracts import Column, ModelSchema, TensorSpec
from services.kit.errors import Invalid, Refusal

from . import reference, scan
from .domain import Manifest, ManifestColumn
from .formats import Model, Opened
from .manifest import validated


def inspector(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry: the job as JSON in, the answer as JSON out."""
    job = orjson.loads(argument)
    return lambda _: orjson.dumps(inspect_package(job["folder"], job["manifest"], job["names"]))


def inspect_package(folder: str, manifest: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """An inspection, or a refusal, which is an answer too. A crash is the caller's to explain."""
    try:
        return {"inspection": _inspect(Path(folder), Manifest.model_validate(manifest), names)}
    except Refusal as refusal:
        return {"refused": refusal.message, "field": getattr(refusal, "field", None)}


def _inspect(folder: Path, manifest: Manifest, names: list[str]) -> dict[str, Any]:
    opened = _open(folder / manifest.model, manifest)
    verdict = scan.scan(folder, names, manifest.recipe, opened.findings)
    table = reference.read(folder / manifest.training) if manifest.training else None
    schema = _schema(opened, manifest, table)
    if table is not None:
        table = _answered(table, opened, schema)
    elif opened.model:
        reference.smoke(opened.model, reference.blank(schema.inputs), schema.prediction)
    _check_label(manifest, table)
    return {
        "model_schema": schema.model_dump(mode="json"),
        "scan": verdict.model_dump(mode="json"),
        "training_rows": table.num_rows if table is not None else None,
        "environment": opened.environment,
        "baseline": _baseline(table, schema, manifest),
    }


def _open(path: Path, manifest: Manifest) -> Opened:
    # Each library takes seconds to import: only the one that is needed is.
    if manifest.format == "onnx":
        from .formats import onnx_file

        return onnx_file.open_model(path, manifest.prediction, manifest.score)
    from .formats import table_file

    return table_file.open_model(manifest.format, path, len(manifest.columns), manifest.prediction, manifest.score)


def _schema(opened: Opened, manifest: Manifest, table: pa.Table | None) -> ModelSchema:
    inputs, outputs = _tensors(opened, manifest)
    columns: tuple[Column, ...] = tuple(Column(**column.model_dump()) for column in manifest.columns)
    if not columns and table is not None:
        columns = reference.inferred_columns(table, manifest, _width(inputs))
    if not columns and opened.names:
        nullable = opened.takes_missing
        columns = tuple(validated(ManifestColumn, {"name": name, "nullable": nullable}) for name in opened.names)
    _check_columns(inputs, columns)
    _check_order([column.name for column in columns], opened.names)
    for field, name in (("prediction", opened.prediction), ("score", opened.score)):
        if name is not None and name not in [each.name for each in outputs]:
            has = ", ".join(each.name for each in outputs)[:300]
            raise Invalid(f"{field}: the model has no output {name}; it has {has}", field)
    return ModelSchema(
        inputs=inputs, outputs=outputs, columns=columns, prediction=opened.prediction, score=opened.score
    )


def _check_label(manifest: Manifest, table: pa.Table | None) -> None:
    """A recipe that learns from a column that is not there would fail at the first retraining only."""
    if table is not None and manifest.label and manifest.label not in table.column_names:
        raise Invalid(f"label: the training rows have no column {manifest.label}", "label")
    if manifest.recipe and not manifest.label:
        raise Invalid("label: a recipe learns from a column with the truth: name it", "label")


def _check_order(declared: list[str], names: tuple[str, ...] | None) -> None:
    """Names that the model knows in another order would be taken for one another in silence."""
    if names and set(names) == set(declared) and list(names) != declared:
        place = next(place for place, (a, b) in enumerate(zip(names, declared, strict=True)) if a != b)
        raise Invalid(f"columns: the model has {names[place]} where {declared[place]} is declared", "columns")


def _tensors(opened: Opened, manifest: Manifest) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Of the model; of the manifest alone where the model's types are not trusted and it was not built."""
    if opened.model:
        return opened.model.inputs, opened.model.outputs
    score = [TensorSpec(name=opened.score, datatype="FP32", shape=(-1, -1))] if opened.score else []
    decision = TensorSpec(name=opened.prediction, datatype="INT64", shape=(-1,))
    width = len(manifest.columns) or -1
    return (TensorSpec(name="X", datatype="FP32", shape=(-1, width)),), (decision, *score)


def _width(inputs: tuple[TensorSpec, ...]) -> int:
    is_matrix = len(inputs) == 1 and len(inputs[0].shape) == 2
    return inputs[0].shape[1] if is_matrix else len(inputs)


def _check_columns(inputs: tuple[TensorSpec, ...], columns: tuple[Column, ...]) -> None:
    if not columns:
        return
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        if inputs[0].shape[1] not in (-1, len(columns)):
            told = f"{len(columns)} are declared, input {inputs[0].name} takes {inputs[0].shape[1]}"
            raise Invalid(f"columns: {told}", "columns")
        return
    if missing := {each.name for each in inputs} ^ {column.name for column in columns}:
        raise Invalid(f"columns: {sorted(missing)[0]} is not both an input and a column", "columns")


def _answered(table: pa.Table, opened: Opened, schema: ModelSchema) -> pa.Table:
    """The reference rows, checked against schema and model, with the model's decision on each."""
    if not schema.columns:
        raise Invalid("columns: training rows are of use only with columns", "columns")
    values = reference.matrix(table, schema.columns)
    if opened.model is None:
        return table
    answer = _ask(opened.model, schema, reference.smoke_rows(values))
    if schema.prediction in table.column_names:
        reference.check_predictions(table, answer[schema.prediction], schema.prediction)
        return table
    table = reference.sample(table)
    answer = _ask(opened.model, schema, reference.matrix(table, schema.columns))
    return table.append_column(schema.prediction, pa.array(answer[schema.prediction].ravel()))


def _ask(model: Model, schema: ModelSchema, rows: Any) -> dict[str, Any]:
    return reference.smoke(model, reference.feed(schema.inputs, schema.columns, rows), schema.prediction)


def _baseline(table: pa.Table | None, schema: ModelSchema, manifest: Manifest) -> dict[str, Any] | None:
    """The sketches that the monitor compares with; none without rows or without the model's decisions on them."""
    if table is None or schema.prediction not in table.column_names:
        return None
    from services.kit.profiles import build_profile

    return build_profile(reference.sample(table), schema, label=manifest.label).model_dump(mode="json")
