"""The tensors of one request, read in their order: out of its JSON, or of the bytes that follow it."""

from typing import Any

import numpy as np

from contracts import Datatype, TensorSpec

from .content import from_base64, is_base64
from .document import parameters_of
from .errors import BadInput, called
from .tail import piece, refuse_rest
from .tensors import NUMPY, Array, Place, from_binary, from_json, read_shape

_OTHER: dict[str, Datatype] = {"FP32": "FP64", "FP64": "FP32"}
"""They are taken for each other where no value changes."""


class Reading:
    """Where in a request one is."""

    def __init__(self, literals: bool, tail: memoryview | None) -> None:
        """`literals`: the JSON holds `true` or `false` somewhere; `tail`: the bytes behind it, None without any."""
        self._literals = literals
        self._tail = tail
        self._at = 0
        self.plain = tail is None
        """Whether the request's own JSON says in the model's terms what was read so far."""

    def input(self, spec: TensorSpec, one: dict[str, Any], place: Place, *, nulls: bool) -> Array:
        """A tensor in the model's datatype. Raises BadInput where it has another, or one that would change a value."""
        stated = one.get("datatype")
        if stated == spec.datatype:
            return self.values(spec, one, place, nulls=nulls)
        other = _OTHER.get(spec.datatype)
        if other is None or stated != other:
            raise BadInput(f"tensor {called(spec.name)} has datatype {called(stated)}, "
                           f"the model takes {spec.datatype}", spec.name)  # fmt: skip
        self.plain = False
        values = self.values(spec.model_copy(update={"datatype": other}), one, place, nulls=nulls)
        return _in_width_of(spec, values, place)

    def values(self, spec: TensorSpec, one: dict[str, Any], place: Place, *, nulls: bool) -> Array:
        """A tensor as `spec` says it. Raises BadInput."""
        shape, parameters = read_shape(spec, one.get("shape")), parameters_of(one)
        size = parameters.get("binary_data_size")
        if size is None:
            values = from_json(spec, shape, one.get("data"), place, nulls=nulls, literals=self._literals)
        else:
            raw = piece(spec, one, size, self._tail, self._at)
            self._at += len(raw)
            values = from_binary(spec, shape, raw)
        if not is_base64(spec, parameters):
            return values
        self.plain = False
        return from_base64(spec, values, place)

    def end(self) -> None:
        """Raises BadInput where bytes are left that no tensor claimed."""
        refuse_rest(self._tail, self._at)


def _in_width_of(spec: TensorSpec, values: Array, place: Place) -> Array:
    """Floats of one width as those of the other."""
    with np.errstate(over="ignore"):
        made = values.astype(NUMPY[spec.datatype])
    changed = (made != values) & ~np.isnan(values)
    if changed.any():
        raise BadInput(
            f"{place.at(int(np.argmax(changed)))} holds a number that {spec.datatype} does not hold exactly; the model "
            f"takes {spec.datatype}: sent as such, it is rounded", spec.name,
        )  # fmt: skip
    return made
