"""What strangers write as JSON: read by its standard, and refused by the path of the field that is wrong."""

import json
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from .errors import Invalid
from .inputs import leaves, shown


class StrictRequest(Request):
    """A request whose JSON says everything once: of a repeated key, one reader takes the first and another the last."""

    async def json(self) -> Any:
        """Raises Invalid naming what is wrong and where."""
        if not hasattr(self, "_json"):
            self._json = strict_json(await self.body())
        return self._json


class StrictRoute(APIRoute):
    """A route that reads JSON by its standard."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await answer(StrictRequest(request.scope, request.receive))

        return strictly


def strict_json(data: bytes) -> Any:
    """JSON by its standard. Raises Invalid naming a key that is there twice, a NaN's place, or where it is no JSON."""
    strange: list[str] = []

    def constant(said: str) -> float:
        strange.append(said)
        return math.nan

    try:
        value = json.loads(data, object_pairs_hook=_once_each, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"body: {_no_json(error)}", "body") from None
    if strange:
        places = (field for field, leaf in leaves(value) if isinstance(leaf, float) and not math.isfinite(leaf))
        field = next(places, "") or "body"
        raise Invalid(f"{field}: {strange[0]} is no JSON", field)
    return value


def _no_json(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f"it is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        case UnicodeDecodeError():
            return f"it is not text in UTF-8 (byte {error.start})"
        case RecursionError():
            return "the JSON is nested too deep"
        case _:  # Python reads no number of thousands of digits
            return "a whole number is out of range (64 bits)"


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        key = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise Invalid(f"{shown(key)}: this key is there twice", shown(key))
    return made


def refused(errors: Sequence[Mapping[str, Any]], given: Any = None, root: str = "body") -> Invalid:
    """The first of a validation's errors, by the path of its field as the caller wrote it.

    `given` is what was validated, as far as it is known: the names of a union's branches are no part of it.
    """
    said: dict[str, list[str]] = {}
    for error in errors:
        field = _path(error["loc"], given, is_missing=error["type"] == "missing") or root
        said.setdefault(field, []).append(_plainly(error["msg"]))
    field, reasons = next(iter(said.items()))
    more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
    return Invalid(f"{field}: {', or '.join(dict.fromkeys(reasons))[:500]}{more}", field)


def _path(loc: Sequence[str | int], given: Any, *, is_missing: bool) -> str:
    if given is None:
        return ".".join(shown(str(part)) for part in loc)
    parts: list[str] = []
    for place, part in enumerate(loc):
        if _holds(given, part):
            given = given[part]
        elif not (is_missing and place == len(loc) - 1):
            continue
        parts.append(shown(str(part)))
    return ".".join(parts)


def _holds(given: Any, part: str | int) -> bool:
    if isinstance(given, list | tuple):
        return isinstance(part, int) and part < len(given)
    return isinstance(given, dict) and part in given


def _plainly(message: str) -> str:
    """A validator's own words, without pydantic's announcement of them."""
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
