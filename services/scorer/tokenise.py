"""Sensitive columns leave this process as tokens: keyed, stable, and not to be turned back."""

import hmac
import math
from pathlib import Path

import orjson

from services.kit.keys import own_key


class Tokeniser:
    """The same value of the same column gives the same token in one installation, so groups stay countable."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, keys: Path) -> "Tokeniser":
        """With the installation's key, made at the first start."""
        return cls(own_key(keys / "scorer-tokens.key"))

    def token(self, column: str, value: object) -> str | None:
        """The token of one value; a missing value stays missing."""
        if value is None or value != value:  # NaN is a missing value
            return None
        plain = value.decode(errors="replace") if isinstance(value, bytes) else value
        if isinstance(plain, float):
            plain = _number(plain)
        said = column.encode() + b"\0" + orjson.dumps(plain)
        return "tok_" + hmac.digest(self._key, said, "sha256").hex()[:24]


def _number(value: float) -> float | str:
    """As it is written: 34 and 34.0 are one value, within the 64 bits that an integer may have here."""
    if math.isinf(value):
        return str(value)
    return int(value) if value.is_integer() and -(2.0**63) <= value < 2.0**64 else value
