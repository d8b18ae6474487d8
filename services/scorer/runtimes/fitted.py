"""What code answered, as its schema says it: a value that would have to change for that is refused."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from contracts import TensorSpec

from ..v2.tensors import NUMPY
from .errors import ModelFailed

Array = np.ndarray[Any, Any]


def fitted(answer: Mapping[str, Array], spec: TensorSpec, rows: int) -> Array:
    """An output in the schema's datatype and shape. Raises ModelFailed where the model answered something else.

    One column may come as a vector and a vector as one column; whole numbers may come as floats.
    """
    values = answer.get(spec.name)
    if spec.shape[:1] != (-1,):  # an ONNX model's: no row is anybody's
        return _whole(values, spec)
    if values is None or values.ndim == 0 or len(values) != rows:
        raise ModelFailed("the model did not answer every row")
    shaped, kind = _shaped(values, spec), NUMPY[spec.datatype]
    if shaped.dtype == kind:
        return shaped
    if spec.datatype == "BYTES":
        if shaped.dtype.kind not in "OSU":
            raise _no(spec)
        return shaped.astype(object)
    return _number(shaped, kind, spec)


def _whole(values: Array | None, spec: TensorSpec) -> Array:
    fits = (
        values is not None
        and values.ndim == len(spec.shape)
        and all(want in (-1, got) for want, got in zip(spec.shape, values.shape, strict=True))
    )
    if values is None or not fits or values.dtype != NUMPY[spec.datatype]:
        raise ModelFailed(f"the model answered {spec.name[:100]} otherwise than its schema says")
    return values


def _shaped(values: Array, spec: TensorSpec) -> Array:
    rest = tuple(spec.shape[1:])
    if len(rest) == 1 and values.ndim == 1:
        values = values.reshape(-1, 1)
    elif not rest and values.ndim > 1 and prod(values.shape[1:]) == 1:
        values = values.reshape(-1)
    fits = len(rest) == values.ndim - 1 and all(
        want in (-1, got) for want, got in zip(rest, values.shape[1:], strict=True)
    )
    if not fits:
        raise ModelFailed(
            f"the model answered {spec.name[:100]} in shape {list(values.shape)[:8]}; "
            f"its schema says {list(spec.shape)}"
        )  # fmt: skip
    return values


def _number(values: Array, kind: np.dtype[Any], spec: TensorSpec) -> Array:
    """Raises ModelFailed for what is no number, and for one that the datatype does not hold."""
    if values.dtype.kind not in "biuf":
        raise _no(spec)
    with np.errstate(over="ignore", invalid="ignore"):
        made = values.astype(kind)
        if kind.kind == "f":
            same = ~np.isinf(made) | np.isinf(values.astype(np.float64))
        else:
            same = _within(values, kind) & (made == values)
    if not bool(np.all(same)):
        wrong = values[~same].ravel()[0]
        raise ModelFailed(f"the model answered {wrong} as {spec.name[:100]}, which is no {spec.datatype}")
    return made


def _within(values: Array, kind: np.dtype[Any]) -> Array:
    """Which values are in the range of whole numbers of a kind; the comparison is exact at its ends."""
    if kind.kind == "b":
        return (values == 0) | (values == 1)
    bounds = np.iinfo(kind)
    if values.dtype.kind == "f":  # the powers of two beside the ends, which floats hold
        return (values >= float(bounds.min)) & (values < float(bounds.max // 2 + 1) * 2)
    return (values >= bounds.min) & (values <= bounds.max)


def _no(spec: TensorSpec) -> ModelFailed:
    return ModelFailed(f"the model answered no {spec.datatype} as {spec.name[:100]}")
