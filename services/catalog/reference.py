"""The reference rows of a package, read inside the sandbox: do they fit the schema, does the model answer them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contracts import NUMPY_OF, Column, TensorSpec
from services.kit.errors import Invalid
from services.kit.models.feeding import text_columns
from services.kit.models.wire import Array, Tensors
from services.kit.payloads import is_textual

from .domain import Manifest
from .formats import Model

MAX_ROWS = 2_000_000
MAX_CELLS = 200_000_000
BASELINE_ROWS = 50_000
SMOKE_ROWS = 100
_MANY = 20
"""An undeclared whole-number column with at most this many different values is taken as categorical;
of an undeclared column of texts so many classes are told."""
_LONGEST_CATEGORY = 100


def read(path: Path) -> pa.Table:
    """The rows. Raises Invalid for what is no Parquet file or too much of one."""
    try:
        about = pq.read_metadata(path)
        if about.num_rows > MAX_ROWS or about.num_rows * max(1, about.num_columns) > MAX_CELLS:
            raise Invalid(
                f"{path.name} holds more than {MAX_ROWS} rows or {MAX_CELLS} cells: give a sample", "training"
            )
        table = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Invalid(f"{path.name} is not a readable Parquet file: {str(error)[:200]}", "training") from None
    if not table.num_rows:
        raise Invalid(f"{path.name} holds no rows", "training")
    return table


def inferred_columns(table: pa.Table, manifest: Manifest, inputs: tuple[TensorSpec, ...]) -> tuple[Column, ...]:
    """Columns of a package that declares none: what the rows hold beside label, prediction and score."""
    others = {manifest.label, manifest.prediction, manifest.score, "label", "prediction"}
    names = [name for name in table.column_names if name not in others]
    if width(inputs) not in (-1, len(names)):
        told = f"{len(names)} columns beside label and prediction, the model takes {width(inputs)}"
        raise Invalid(f"columns: declare them in fairlead.yaml; the training rows hold {told}", "columns")
    texts = text_columns(inputs, tuple(names))
    return tuple(
        _inferred_text(name, _texts(table, name)) if name in texts else _inferred(name, _numbers(table, name))
        for name in names
    )


def width(inputs: tuple[TensorSpec, ...]) -> int:
    """How many columns the tensors carry; -1: any number."""
    is_matrix = len(inputs) == 1 and len(inputs[0].shape) == 2
    return inputs[0].shape[1] if is_matrix else len(inputs)


def _inferred(name: str, values: Array) -> Column:
    there = values[~np.isnan(values)]
    nullable = len(there) < len(values)
    distinct = np.unique(there)
    if 0 < len(distinct) <= _MANY and np.all(distinct == np.round(distinct)):
        return Column(name=name, kind="categorical", categories=tuple(map(float, distinct)), nullable=nullable)
    return Column(name=name, nullable=nullable)


def _inferred_text(name: str, values: Array) -> Column:
    known = sorted({each.decode(errors="replace") for each in values.tolist()})
    few = len(known) <= _MANY and max(map(len, known)) <= _LONGEST_CATEGORY
    return Column(name=name, kind="categorical", categories=tuple(known) if few else None)


def taken(table: pa.Table, inputs: tuple[TensorSpec, ...], columns: tuple[Column, ...]) -> dict[str, Array]:
    """The columns that the model takes, [rows] each: numbers, of which missing ones are NaN, or texts as bytes.

    Raises Invalid naming a column that is absent or contradicts itself.
    """
    for column in columns:
        if column.name not in table.column_names:
            raise Invalid(f"column {column.name} is not in the training rows", f"columns.{column.name}")
    texts = text_columns(inputs, tuple(column.name for column in columns))
    found: dict[str, Array] = {}
    for column in columns:
        if column.name in texts:
            found[column.name] = _texts(table, column.name)
            _check_categories(column, found[column.name])
        else:
            found[column.name] = _numbers(table, column.name)
            _check_range(column, found[column.name].astype(np.float32))
    return found


def _numbers(table: pa.Table, name: str) -> Array:
    try:
        column = pc.cast(table[name].combine_chunks(), pa.float64())
    except (pa.ArrowException, ValueError):
        raise Invalid(f"column {name} of the training rows holds no numbers", f"columns.{name}") from None
    return column.to_numpy(zero_copy_only=False)


def _texts(table: pa.Table, name: str) -> Array:
    column = table[name].combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not is_textual(column.type):
        raise Invalid(f"column {name} of the training rows holds no texts, which the model takes", f"columns.{name}")
    if column.null_count:
        told = "a text tensor has none: give it a text of its own"
        raise Invalid(f"column {name} misses values in the training rows; {told}", f"columns.{name}")
    made = np.empty(len(column), object)
    made[:] = [each.encode() if isinstance(each, str) else each for each in column.to_pylist()]
    return made


def _check_categories(column: Column, values: Array) -> None:
    if column.categories is None:
        return
    known = {str(each) for each in column.categories}
    for each in values.tolist():
        if (said := each.decode(errors="replace")) not in known:
            told = f"column {column.name}: the training rows hold {said[:50]!r}, which it excludes"
            raise Invalid(told, f"columns.{column.name}")


def _check_range(column: Column, values: Array) -> None:
    there = values[~np.isnan(values)]
    where = f"columns.{column.name}"
    if len(there) < len(values) and not column.nullable:
        raise Invalid(f"column {column.name} misses values in the training rows but is not nullable", where)
    outside = np.zeros(len(there), bool)
    if column.minimum is not None:
        outside |= there < np.float32(column.minimum)
    if column.maximum is not None:
        outside |= there > np.float32(column.maximum)
    if column.categories is not None:
        outside |= ~np.isin(there, np.asarray(column.categories, np.float32))
    if outside.any():
        raise Invalid(f"column {column.name}: the training rows hold {there[outside][0]:g}, which it excludes", where)


def blank(inputs: tuple[TensorSpec, ...]) -> Tensors:
    """One row of zeros for a model whose package brings no rows."""
    return {
        each.name: np.full([max(1, size) for size in each.shape], b"" if each.datatype == "BYTES" else 0)
        .astype(NUMPY_OF[each.datatype])
        for each in inputs
    }  # fmt: skip


def predicted(model: Model, tensors: Tensors) -> Tensors:
    """What the model answers. Raises Invalid where it cannot."""
    try:
        return model.predict(tensors)
    except Exception as error:  # noqa: BLE001 - a stranger's model may raise anything
        raise fails(f"{type(error).__name__}: {error}") from None


def fails(reason: str) -> Invalid:
    """The refusal of a model that cannot answer."""
    return Invalid(f"the model fails on its own rows: {' '.join(reason.split())[:300]}", "package")


def check_answer(answer: Tensors, rows: int, prediction: str) -> None:
    """Raises Invalid for a decision that has not one value a row."""
    if prediction not in answer:
        raise Invalid(f"prediction: the model's answer has no output {prediction}", "prediction")
    decided = answer[prediction]
    if decided.shape[:1] != (rows,) or decided.size != rows:
        raise Invalid(f"prediction: output {prediction} has shape {list(decided.shape)} for {rows} rows", "prediction")


def as_column(decided: NDArray[Any]) -> pa.Array:
    """Decisions as a column; BYTES are texts."""
    texts = decided.dtype.kind == "O"
    return pa.array([each.decode(errors="replace") if isinstance(each, bytes) else each for each in decided.tolist()]
                    if texts else decided)  # fmt: skip


def check_predictions(table: pa.Table, decided: NDArray[Any], prediction: str) -> None:
    """The rows say what the model predicted: it must still say so. Raises Invalid otherwise."""
    told = np.asarray(table[prediction].slice(0, len(decided)).to_pylist())
    if decided.dtype.kind == "f" and told.dtype.kind in "fiu":
        agree = np.isclose(told.astype(float), decided.ravel(), rtol=1e-3, atol=1e-4)
    else:
        agree = told.astype(str) == np.asarray(as_column(decided.ravel()).to_pylist()).astype(str)
    if agree.mean() < 0.95:
        told_by = f"column {prediction} of the training rows is not what the model predicts"
        raise Invalid(f"{told_by}: they agree on {int(agree.sum())} of {len(decided)} rows", "training")


def smoke_rows(table: pa.Table) -> pa.Table:
    """The first rows, at most 100: enough to see whether the model answers."""
    return table.slice(0, SMOKE_ROWS)


def sample(table: pa.Table) -> pa.Table:
    """At most `BASELINE_ROWS` rows, evenly spaced: what the baseline is made of."""
    if table.num_rows <= BASELINE_ROWS:
        return table
    return table.take(np.linspace(0, table.num_rows - 1, BASELINE_ROWS).astype(np.int64))
