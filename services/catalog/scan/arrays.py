"""The header of an array in numpy's own format (numpy.lib.format), read as numpy reads it."""

import math
import tokenize
from dataclasses import dataclass
from typing import IO

from numpy.lib import format as npy

_LONGEST_HEADER = 1024 * 1024
_BAD = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError,
    tokenize.TokenError,
)  # fmt: skip
"""What numpy raises for a header of a stranger's making."""


class Unreadable(Exception):
    """An array whose header says nothing that numpy understands, or more than the file holds."""


@dataclass(frozen=True)
class Array:
    """What the header says."""

    holds_objects: bool
    end: int
    """Where its numbers end, in bytes from the beginning of the file."""


def array_at(file: IO[bytes], size: int) -> Array:
    """The array that begins where the file of `size` bytes stands, which then stands behind the header.

    Raises Unreadable.
    """
    start = file.tell()
    try:
        version = npy.read_magic(file)
        if version != (1, 0) and int.from_bytes(file.read(4), "little") > _LONGEST_HEADER:
            raise Unreadable("whose header is too long")
        file.seek(start + npy.MAGIC_LEN)
        # 3.0 is 2.0 with names in UTF-8, and names do not matter here
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=_LONGEST_HEADER)
    except _BAD:
        raise Unreadable("whose header cannot be read") from None
    end = file.tell() + math.prod(shape) * dtype.itemsize
    if version > (3, 0) or min(shape, default=0) < 0 or (end > size and not dtype.hasobject):
        raise Unreadable("whose header does not fit it")
    return Array(dtype.hasobject, end)
