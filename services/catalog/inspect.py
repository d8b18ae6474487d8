"""What runs in the sandbox: it opens a stranger's model and rows and says what they are."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from contracts import Column, ModelSchema, TensorSpec
from services.kit.errors import Invalid, Refusal
from services.kit.models import Told
from services.kit.models.feeding import feed, text_columns
from services.kit.models.wire import Array, Tensors, datatype, pack, unpack

from . import reference, scan
from .domain import SEGMENTS_AT_MOST, Manifest, ManifestColumn, ManifestTensor
from .formats import Opened
from .manifest import validated

Conversation = Generator[Tensors, Tensors, dict[str, Any]]
"""It asks for the model's answers to tensors, and ends with what was seen."""


def inspector(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry, a talk: it hears what the model told of itself (JSON; nothing for one that is opened here),
    then the model's answers; it says tensors for the model, at last an inspection or a refusal (JSON).
    """
    job = orjson.loads(argument)
    talk: Conversation | None = None

    def answer(payload: bytes) -> bytes:
        nonlocal talk
        try:
            if talk is not None:
                return pack(talk.send(unpack(payload)))
            told = Told(**orjson.loads(payload)) if payload else None
            talk = conversation(job["folder"], job["manifest"], job["names"], told, job["locked"])
            return pack(next(talk))
        except StopIteration as ended:
            return orjson.dumps(ended.value)

    return answer


def conversation(
    folder: str, manifest: dict[str, Any], names: list[str], told: Told | None, locked: list[str] | None
) -> Conversation:
    """Ends with an inspection, or a refusal, which is an answer too. A crash is the caller's to explain."""
    try:
        seen = yield from _inspect(Path(folder), Manifest.model_validate(manifest), names, told, locked)
        return {"inspection": seen}
    except Refusal as refusal:
        return {"refused": refusal.message, "field": getattr(refusal, "field", None)}


def _inspect(
    folder: Path, manifest: Manifest, names: list[str], told: Told | None, locked: list[str] | None
) -> Conversation:
    opened = _open(folder / manifest.model, manifest, told, locked)
    verdict = scan.scan(folder, names, manifest, opened.findings)
    table = reference.read(folder / manifest.training) if manifest.training else None
    columns = _columns(opened, manifest, table)
    if not opened.outputs:
        opened.outputs = yield from _first_answer(opened, columns, table)
    schema = _schema(opened, columns)
    if table is not None:
        table = yield from _answered(table, opened, schema)
    elif not opened.findings:
        yield from _ask(opened, reference.blank(schema.inputs), schema.prediction)
    _check_label(manifest, table)
    return {
        "model_schema": schema.model_dump(mode="json"),
        "scan": verdict.model_dump(mode="json"),
        "training_rows": table.num_rows if table is not None else None,
        "environment": opened.environment,
        "baseline": _baseline(table, schema, manifest),
    }


def _open(path: Path, manifest: Manifest, told: Told | None, locked: list[str] | None) -> Opened:
    # Each library takes seconds to import: only the one that is needed is.
    if told is not None:
        from .formats import sandboxed_model

        return sandboxed_model.opened(told, manifest, locked)
    from .formats import onnx_file

    return onnx_file.open_model(path, manifest.prediction, manifest.score)


def _columns(opened: Opened, manifest: Manifest, table: pa.Table | None) -> tuple[Column, ...]:
    """As declared, else as the rows hold them, else as the model calls them."""
    columns: tuple[Column, ...] = tuple(Column(**column.model_dump()) for column in manifest.columns)
    if not columns and table is not None:
        columns = reference.inferred_columns(table, manifest, opened.inputs)
    if not columns and opened.names:
        nullable = opened.takes_missing
        columns = tuple(validated(ManifestColumn, {"name": name, "nullable": nullable}) for name in opened.names)
    if not opened.inputs:
        raise Invalid("columns: name the columns, or declare inputs: the model does not say what it takes", "columns")
    _check_columns(opened.inputs, columns)
    _check_order([column.name for column in columns], opened.names)
    texts = text_columns(opened.inputs, tuple(column.name for column in columns))
    return _segmented(tuple(_as_taken(each, is_text=each.name in texts) for each in columns), manifest.segments)


def _as_taken(column: Column, *, is_text: bool) -> Column:
    """A column of texts has classes, whatever it was declared as. Raises Invalid where it contradicts the tensor."""
    where = f"columns.{column.name}"
    named = column.categories is not None and any(isinstance(each, str) for each in column.categories)
    if not is_text:
        if named:
            raise Invalid(f"column {column.name}: the model takes numbers, and its categories are texts", where)
        return column
    if column.categories and not named:
        raise Invalid(f"column {column.name}: the model takes texts, and its categories are numbers", where)
    if column.minimum is not None or column.maximum is not None:
        raise Invalid(f"column {column.name}: the model takes texts, which have no minimum and no maximum", where)
    return column.model_copy(update={"kind": "categorical"})


def _segmented(columns: tuple[Column, ...], named: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns with those marked that are segments. Raises Invalid naming one that cannot be."""
    if unknown := sorted(set(named) - {column.name for column in columns}):
        has = ", ".join(column.name for column in columns)[:300] or "none"
        raise Invalid(f"segments: {unknown[0]} is not a column; the columns are: {has}", "segments")
    marked = tuple(c.model_copy(update={"segment": c.segment or c.name in named}) for c in columns)
    segments = [column for column in marked if column.segment]
    for column in segments:
        if column.sensitive:
            told = "the log holds no value of it to group rows by"
            raise Invalid(f"segments: column {column.name} is sensitive: {told}", "segments")
    if len(segments) > SEGMENTS_AT_MOST:
        names = ", ".join(column.name for column in segments)[:300]
        raise Invalid(f"segments: {len(segments)} are too many, {SEGMENTS_AT_MOST} are counted: {names}", "segments")
    return marked


def _schema(opened: Opened, columns: tuple[Column, ...]) -> ModelSchema:
    prediction = opened.prediction or opened.outputs[0].name
    for field, name in (("prediction", prediction), ("score", opened.score)):
        if name is not None and name not in [each.name for each in opened.outputs]:
            has = ", ".join(each.name for each in opened.outputs)[:300]
            raise Invalid(f"{field}: the model has no output {name}; it has {has}", field)
    return ModelSchema(
        inputs=opened.inputs,
        outputs=opened.outputs,
        columns=columns,
        prediction=prediction,
        score=opened.score,
        params=opened.params,
    )


def _first_answer(
    opened: Opened, columns: tuple[Column, ...], table: pa.Table | None
) -> Generator[Tensors, Tensors, tuple[TensorSpec, ...]]:
    """The outputs of a model that does not say them, by what it answers."""
    asked = reference.blank(opened.inputs)
    if table is not None and columns:
        asked = feed(opened.inputs, reference.taken(reference.smoke_rows(table), opened.inputs, columns))
    answer = yield from _said(opened, asked)
    if not answer:
        raise Invalid("the model answers with no tensor", "package")
    return tuple(
        TensorSpec(**validated(ManifestTensor, _described(name, values)).model_dump())
        for name, values in answer.items()
    )


def _described(name: str, values: Array) -> dict[str, Any]:
    return {"name": name, "datatype": datatype(values), "shape": [-1, *values.shape[1:]]}


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


def _answered(table: pa.Table, opened: Opened, schema: ModelSchema) -> Generator[Tensors, Tensors, pa.Table]:
    """The reference rows, checked against schema and model, with the model's decision on each."""
    if not schema.columns:
        raise Invalid("columns: training rows are of use only with columns", "columns")
    reference.taken(table, schema.inputs, schema.columns)
    if opened.findings:
        return table
    decided = yield from _decided(reference.smoke_rows(table), opened, schema)
    if schema.prediction in table.column_names:
        reference.check_predictions(table, decided, schema.prediction)
        return table
    table = reference.sample(table)
    decided = yield from _decided(table, opened, schema)
    return table.append_column(schema.prediction, reference.as_column(decided))


def _decided(table: pa.Table, opened: Opened, schema: ModelSchema) -> Generator[Tensors, Tensors, Array]:
    asked = feed(schema.inputs, reference.taken(table, schema.inputs, schema.columns))
    answer = yield from _ask(opened, asked, schema.prediction)
    return answer[schema.prediction].ravel()


def _ask(opened: Opened, asked: Tensors, prediction: str) -> Conversation:
    """Let the model answer. Raises Invalid where it cannot, or its decision has not one value a row."""
    answer = yield from _said(opened, asked)
    reference.check_answer(answer, len(next(iter(asked.values()))), prediction)
    return answer


def _said(opened: Opened, asked: Tensors) -> Conversation:
    if opened.model is None:
        return (yield asked)
    return reference.predicted(opened.model, asked)


def _baseline(table: pa.Table | None, schema: ModelSchema, manifest: Manifest) -> dict[str, Any] | None:
    """The sketches that the monitor compares with; none without rows or without the model's decisions on them."""
    if table is None or schema.prediction not in table.column_names:
        return None
    from services.kit.profiles import build_profile

    return build_profile(reference.sample(table), schema, label=manifest.label).model_dump(mode="json")
