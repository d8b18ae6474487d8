"""What somebody typed into a form, as a service is asked for it."""

import math
import re
from collections.abc import Mapping, Sequence

Fields = Mapping[str, Sequence[str]]
"""The inputs of a form by name."""

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def said(fields: Fields, name: str) -> str:
    """What an input holds."""
    return next(iter(fields.get(name, ())), "").strip()


def counted(fields: Fields, within: str, member: str, most: int) -> range:
    """The places of a list's items: `within.0.member`, `within.1.member` and so on."""
    return range(next((n for n in range(most) if f"{within}.{n}.{member}" not in fields), most))


def number(text: str) -> float | str:
    """What is not written as a number, or is beyond all that JSON can say, stays a text."""
    found = float(text) if _PLAIN.fullmatch(text) else math.inf
    return found if math.isfinite(found) else text


def whole(text: str) -> int | float | str:
    """A number, of which a whole one may be written as 1e6."""
    found = number(text)
    return int(found) if isinstance(found, float) and found.is_integer() else found


def shown(value: float) -> str:
    """A number as it is typed: nothing of it is lost."""
    return repr(value).removesuffix(".0")
