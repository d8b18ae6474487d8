"""What a tensor's parameter `content_type` says of its data, as MLServer's clients write it."""

import base64
import binascii
from typing import Any

import numpy as np

from contracts import TensorSpec

from .errors import BadInput, called
from .tensors import Array, Place

_AS_THEY_ARE = ("datetime", "np", "pd", "str")
"""What a server of MLServer's would make of the values in Python; on the wire they are what they are without."""
_BASE64 = "base64"


def is_base64(spec: TensorSpec, parameters: dict[str, Any]) -> bool:
    """Whether the elements of a tensor are Base64. Raises BadInput for a content that is not known here."""
    said = parameters.get("content_type")
    if said is None or said in _AS_THEY_ARE:
        return False
    if said != _BASE64:
        known = ", ".join((_BASE64, *_AS_THEY_ARE))
        raise BadInput(f"tensor {called(spec.name)}: `content_type` {called(said)} is none of {known}", spec.name)
    if spec.datatype != "BYTES":
        raise BadInput(f"tensor {called(spec.name)}: `content_type` base64 is of BYTES, not {spec.datatype}", spec.name)
    return True


def from_base64(spec: TensorSpec, values: Array, place: Place) -> Array:
    """The bytes that some BYTES are the Base64 of. Raises BadInput."""
    made = np.empty(values.size, object)
    for position, value in enumerate(values.reshape(-1).tolist()):
        try:
            made[position] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise BadInput(f"{place.at(position)} is no Base64", spec.name) from None
    return made.reshape(values.shape)
