"""What strangers send: texts, numbers and moments that PostgreSQL can take, and cursors that were made here."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, overload
from urllib.parse import parse_qsl
from uuid import UUID

import orjson
from pydantic import AwareDatetime, Field
from starlette.requests import Request

from .errors import Invalid

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
Kind = Callable[[Any], A]

_FIRST, _BEYOND = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_LONGEST_CURSOR = 2000
_NESTED = 100

Moment = Annotated[AwareDatetime, Field(ge=_FIRST, lt=_BEYOND)]
"""A time that no zone moves out of what can be stored."""

Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""A version's number as a column holds it; the contract sets no upper bound."""


# Texts


def check_text(value: str, field: str) -> str:
    """The text itself. Raises Invalid naming the field where no database or topic could take it."""
    if reason := _unfit(value):
        raise Invalid(f"{field}: {reason}", field)
    return value


def check_texts(data: Any, root: str = "body") -> Any:
    """The same for every text of a JSON value, keys included."""
    try:
        plain = orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        _check_each(data, root)
        raise Invalid(f"{root}: {_said(error)}", root) from None
    if b"\\u0000" in plain:  # perhaps: the six characters themselves look like it
        _check_each(data, root)
    return data


def _check_each(data: Any, root: str) -> None:
    for field, value in _texts(data, "", 0):
        check_text(value, field or root)


def _unfit(value: str) -> str | None:
    if "\0" in value:
        return "a text holds a NUL character (\\u0000)"
    if value.isascii() or not any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
        return None
    return "a text holds half of a surrogate pair: it is not valid Unicode"


def _texts(data: Any, field: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _NESTED:
        return
    if isinstance(data, str):
        yield field, data
    elif isinstance(data, dict):
        for key, value in data.items():
            inner = f"{field}.{_shown(str(key))}".lstrip(".")
            yield inner, str(key)
            yield from _texts(value, inner, depth + 1)
    elif isinstance(data, list | tuple):
        for place, value in enumerate(data):
            yield from _texts(value, f"{field}.{place}".lstrip("."), depth + 1)


def _shown(name: str) -> str:
    """A field's name as an answer can hold it."""
    return name.encode(errors="replace").decode().replace("\0", "?")[:80]


def _said(error: Exception) -> str:
    if "ecursion" in str(error):
        return "the JSON is nested too deep"
    if "nteger" in str(error):
        return "a whole number is out of range (64 bits)"
    return "a value cannot be stored"


def check_target(path: str, query: bytes) -> None:
    """Raises Invalid where path or query hold a NUL character: no route has a use for it, and no table takes it."""
    if "\0" in path:
        raise Invalid("path: it holds a NUL character (%00)", "path")
    if b"%00" in query or b"\0" in query:
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
            check_text(value, _shown(name))
            check_text(name, "query")


class StrictRequest(Request):
    """A request whose JSON says everything once: of a repeated key, one reader takes the first and another the last."""

    async def json(self) -> Any:
        """Raises Invalid naming the key that is there twice, ValueError for what is no JSON."""
        if not hasattr(self, "_json"):
            self._json = strict_json(await self.body())
        return self._json


def strict_json(data: bytes) -> Any:
    """JSON by its standard. Raises Invalid naming a key that is there twice, ValueError for all else: NaN too."""
    return json.loads(data, object_pairs_hook=_once_each, parse_constant=_no_number)


def _no_number(said: str) -> Any:
    raise ValueError(f"{said} is no JSON")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        key = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise Invalid(f"{_shown(key)}: this key is there twice", _shown(key))
    return made


# Moments and cursors


def moment(said: Any) -> datetime:
    """A time as ISO 8601 with its zone. Raises ValueError."""
    at = datetime.fromisoformat(said)
    if at.tzinfo is None or not _FIRST <= at < _BEYOND:
        raise ValueError("not a moment that can be stored")
    return at


def moment_of(text: str | None, field: str) -> datetime | None:
    """A time that a person wrote, in UTC where it names no zone. Raises Invalid naming the field."""
    if text is None:
        return None
    try:
        # A plus sign in a query string arrives as a space.
        at = datetime.fromisoformat(text.replace(" 0", "+0") if text.count(" ") == 1 and "T" in text else text)
    except ValueError:
        raise Invalid(f"{field}: it is not an ISO 8601 time such as 2026-03-02T09:30:00Z", field) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not _FIRST <= at < _BEYOND:
        raise Invalid(f"{field}: it is not a time between 1970 and 9000", field)
    return at


def name(said: Any) -> str:
    """A text by which a list is ordered. Raises ValueError."""
    if not isinstance(said, str) or _unfit(said):
        raise ValueError("not a text")
    return said


def uuid(said: Any) -> UUID:
    """Raises ValueError."""
    return UUID(name(said))


def version(said: Any) -> int:
    """A number of a column of 32 bits. Raises ValueError."""
    return _whole(said, 2**31)


def position(said: Any) -> int:
    """A number of a column of 64 bits. Raises ValueError."""
    return _whole(said, 2**63)


def _whole(said: Any, beyond: int) -> int:
    if type(said) is not int or not 0 <= said < beyond:
        raise ValueError("not a number of this list")
    return said


def as_cursor(*values: str | int | datetime | UUID) -> str:
    """An opaque place in a list, to hand to a caller."""
    return base64.urlsafe_b64encode(orjson.dumps(values, default=str)).decode().rstrip("=")


@overload
def from_cursor(cursor: str | None, first: Kind[A], /) -> tuple[A] | None: ...
@overload
def from_cursor(cursor: str | None, first: Kind[A], second: Kind[B], /) -> tuple[A, B] | None: ...
@overload
def from_cursor(
    cursor: str | None, first: Kind[A], second: Kind[B], third: Kind[C], fourth: Kind[D], /
) -> tuple[A, B, C, D] | None: ...
def from_cursor(cursor: str | None, /, *kinds: Kind[Any]) -> tuple[Any, ...] | None:
    """The values of a cursor, each of its kind; None where there is none. Raises Invalid for one not made here."""
    if cursor is None:
        return None
    try:
        if len(cursor) > _LONGEST_CURSOR:
            raise ValueError("too long")
        values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list):
            raise ValueError("no list")
        return tuple(kind(value) for kind, value in zip(kinds, values, strict=True))
    except (ValueError, TypeError):
        raise Invalid("cursor: this cursor was not made by this list", "cursor") from None
