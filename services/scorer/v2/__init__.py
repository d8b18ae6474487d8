"""Open Inference Protocol V2: JSON and binary tensors to arrays and back, with strict checks."""

from .codec import Codec, Encoded, Request
from .errors import BadInput
from .tensors import NUMPY

__all__ = ["NUMPY", "BadInput", "Codec", "Encoded", "Request"]
