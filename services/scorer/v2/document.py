"""The JSON part of a V2 request: parsed once, its duplicate keys refused, its plain members checked."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from .errors import BadInput, called

_MEMBERS = frozenset({"id", "parameters", "inputs", "outputs"})
_TENSOR = frozenset({"name", "datatype", "shape", "parameters", "data"})
_OUTPUT = frozenset({"name", "parameters"})
_STRANGE = re.compile(rb"\b(NaN|Infinity)\b")
_DEEPEST = 32
_DEEP = frozenset({dict, list})
_ID = 512
_NAME = 256
_CLOSELY = 256 * 1024
"""Bytes of a body that may be read once more, slowly, to name the key that is there twice."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output that the caller asked for, and how."""

    name: str
    binary: bool


@dataclass(slots=True)
class Document:
    """A parsed request before its tensors are read."""

    raw: bytes
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]] | None
    parameters: dict[str, Any]
    id: str | None
    literals: bool
    """`true` or `false` is somewhere in the text."""
    plain: bool
    """It has V2's own members and no others: a log of the very bytes says nothing that was not read here."""


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object of any shape, without duplicate keys. Raises BadInput."""
    whole = _loads(raw)
    _refuse_duplicates(raw, whole, len(whole))
    return whole


def parse(raw: bytes) -> Document:
    """Parse the JSON part. Raises BadInput."""
    whole = _loads(raw)
    inputs = _objects(whole, "inputs")
    if not inputs:
        raise BadInput("`inputs` must be a list of tensors and must not be empty", "inputs")
    outputs = _objects(whole, "outputs") or None
    parameters = _parameters(whole, "the request")
    _refuse_duplicates(raw, whole, len(whole) + _members(inputs) + _members(outputs or ()) + len(parameters))
    return Document(
        raw, inputs, outputs, parameters, _string(whole, "id", _ID), b"true" in raw or b"false" in raw,
        whole.keys() <= _MEMBERS and _only(inputs, _TENSOR) and _only(outputs or (), _OUTPUT),
    )  # fmt: skip


def _loads(raw: bytes) -> dict[str, Any]:
    try:
        whole = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        hint = "; JSON has no NaN and no infinity: a missing value is null" if _STRANGE.search(raw) else ""
        raise BadInput(f"the body is not valid JSON: {str(error)[:200]}{hint}") from None
    if type(whole) is not dict:
        raise BadInput("the body must be a JSON object")
    return whole


def is_id(value: object) -> bool:
    """Whether `parse` takes it as a request's id."""
    return type(value) is str and len(value) <= _ID and "\0" not in value


def name_in(parameters: dict[str, Any], name: str) -> str | None:
    """A short printable string among the parameters."""
    value = _string(parameters, name, _NAME)
    if value is not None and not value.isprintable():
        raise BadInput(f"parameter {name!r} holds characters that do not print", name)
    return value


def seconds_in(parameters: dict[str, Any], name: str) -> float | None:
    """A time among the parameters, which says it in microseconds as Triton's clients do; None: none, or 0."""
    if (value := parameters.get(name)) is None:
        return None
    if type(value) is not int or value < 0:
        raise BadInput(f"parameter {name!r} must be a whole number of microseconds", name)
    return value / 1e6 or None


def flag_in(parameters: dict[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if type(value) is not bool:
        raise BadInput(f"parameter {called(name)} must be true or false", name)
    return value


def parameters_of(member: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an input or an output."""
    return _parameters(member, called(member.get("name"))) if "parameters" in member else {}


def wanted_of(document: Document, known: dict[str, Any]) -> tuple[Wanted, ...] | None:
    """The outputs that the caller asked for; None: all, as JSON."""
    binary = flag_in(document.parameters, "binary_data_output") if document.parameters else False
    if document.outputs is None:
        return tuple(Wanted(name, True) for name in known) if binary else None
    wanted: list[Wanted] = []
    for output in document.outputs:
        name = output.get("name")
        if type(name) is not str or name not in known:
            raise BadInput(f"output {called(name)} is not one of {', '.join(known)}", "outputs")
        own = parameters_of(output)
        wanted.append(Wanted(name, flag_in(own, "binary_data") if "binary_data" in own else binary))
    return tuple(wanted)


def _objects(whole: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = whole.get(name)
    if found is None:
        return []
    if type(found) is not list or any(type(one) is not dict for one in found):
        raise BadInput(f"`{name}` must be a list of objects", name)
    return found


def _parameters(member: dict[str, Any], owner: str) -> dict[str, Any]:
    found = member.get("parameters")
    if found is None:
        return {}
    if type(found) is not dict:
        raise BadInput(f"`parameters` of {owner} must be an object", "parameters")
    if _too_deep(found):
        raise BadInput(f"`parameters` of {owner} are nested more than {_DEEPEST} deep", "parameters")
    return found


def _only(objects: Iterable[dict[str, Any]], members: frozenset[str]) -> bool:
    return all(one.keys() <= members for one in objects)


def _too_deep(found: dict[str, Any]) -> bool:
    """They are written anew for the log, and a writer goes less deep than a reader."""
    level: list[Any] = list(found.values())
    for _ in range(_DEEPEST):
        level = [inner for one in level if type(one) in (dict, list) for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(one: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return one.values() if isinstance(one, dict) else one


def _string(member: dict[str, Any], name: str, limit: int) -> str | None:
    value = member.get(name)
    if value is None:
        return None
    if type(value) is not str or len(value) > limit:
        raise BadInput(f"`{name}` must be a string of at most {limit} characters", name)
    if "\0" in value:  # PostgreSQL keeps none: the decision would be in no book
        raise BadInput(f"`{name}` holds a NUL character", name)
    return value


def _members(objects: Any) -> int:
    count = 0
    for one in objects:
        count += len(one)
        if (parameters := one.get("parameters")) and type(parameters) is dict:
            count += len(parameters)
    return count


def _refuse_duplicates(raw: bytes, whole: dict[str, Any], members: int) -> None:
    """Every member needs one colon: as many colons as members proves that none was said twice, at no cost.

    `members`: those of the objects that requests have. More colons come from strings that hold one, from deeper
    objects, or from a duplicate. A parser that sees duplicates is slow and nothing else runs beside it: it looks only
    where there is one, and for its name.
    """
    if raw.count(b":") == members:
        return
    colons = _without_strings(raw).count(b":")
    if colons == members or colons == _all_members(whole):
        return
    if len(raw) <= _CLOSELY:
        _look_for_duplicates(raw)
    raise BadInput("a key of the body is there twice")


def _without_strings(raw: bytes) -> bytes:
    """What stands between the strings of valid JSON."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(raw.split(b'"')[::2])


def _all_members(whole: dict[str, Any]) -> int:
    """Of all objects, however deep."""
    count = 0
    level: list[Any] = [whole]
    while level:
        objects = [one for one in level if type(one) is dict]
        lists = [one for one in level if type(one) is list and not _DEEP.isdisjoint(map(type, one))]
        count += sum(map(len, objects))
        inner = chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(lists))
        level = [one for one in inner if type(one) in _DEEP]
    return count


def _look_for_duplicates(raw: bytes) -> None:
    try:
        json.loads(raw, object_pairs_hook=_unique)
    except (RecursionError, ValueError):
        return  # what Python reads less of than was read before


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise BadInput(f"the key {called(name)} is there twice", name[:80])
        seen.add(name)
