"""The tree of a compiled expression, read from what the evaluator writes: `cel.expr.CheckedExpr` in protobuf.

The field numbers are those of https://github.com/google/cel-spec/tree/master/proto/cel/expr.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """A literal."""

    value: bool | float | str | bytes | None


@dataclass(frozen=True)
class Name:
    """A variable."""

    name: str


@dataclass(frozen=True)
class Items:
    """A list that is written out."""

    items: tuple["Tree", ...]


@dataclass(frozen=True)
class Call:
    """A function, or an operator as `_&&_`; of a method the first argument is what it is called on."""

    function: str
    arguments: tuple["Tree", ...]


@dataclass(frozen=True)
class Other:
    """Anything else, with what is in it."""

    inside: tuple["Tree", ...]


Tree = Constant | Name | Items | Call | Other
_Wire = int | bytes
_ANY_VALUE, _CHECKED_EXPR = 2, 4
_CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 3, 4, 5, 6, 7, 8, 9
"""Kinds of an expression."""
_ENTRY, _KEY, _VALUE = 2, 3, 4
"""Of a map, or of a message that is built: its entries, and what is in each; a message's keys are plain names."""
_PARTS = (2, 4, 5, 6, 7)
"""Of a comprehension: over what, from what, how long, by which step, and what comes of it."""


def read(serialized: bytes) -> Tree:
    """The tree in a `google.protobuf.Any` of a checked expression."""
    checked = dict(_fields(serialized))[_ANY_VALUE]
    return _tree(_message(dict(_fields(_message(checked)))[_CHECKED_EXPR]))


def names(tree: Tree) -> set[str]:
    """Its variables."""
    match tree:
        case Name(name):
            return {name}
        case Constant():
            return set()
        case Items(some) | Call(_, some) | Other(some):
            return {name for each in some for name in names(each)}


def members(tree: Tree, of: str) -> set[str]:
    """By what texts it asks for members of a variable."""
    match tree:
        case Call("_[_]", (Name(name), Constant(str(key)))) if name == of:
            return {key}
        case Name() | Constant():
            return set()
        case Items(some) | Call(_, some) | Other(some):
            return {member for each in some for member in members(each, of)}


def is_whole(tree: Tree, of: str) -> bool:
    """Whether it asks for a variable other than by members that it names by texts."""
    match tree:
        case Call("_[_]", (Name(name), Constant(str()))) if name == of:
            return False
        case Name(name):
            return name == of
        case Constant():
            return False
        case Items(some) | Call(_, some) | Other(some):
            return any(is_whole(each, of) for each in some)


def _tree(data: bytes) -> Tree:
    for number, value in _fields(data):
        if number == _CONST:
            return _constant(_message(value))
        if number == _IDENT:
            return Name(_text(dict(_fields(_message(value)))[1]))
        if number == _CALL:
            return _call(_message(value))
        if number == _LIST:
            members = list(_fields(_message(value)))
            items = tuple(_tree(_message(each)) for place, each in members if place == 1)
            return Items(items) if all(place == 1 for place, _ in members) else Other(items)
        if number == _SELECT:
            return _selection(_message(value))
        if number == _STRUCT:
            return Other(tuple(_entries(_message(value))))
        if number == _COMPREHENSION:
            return Other(tuple(_tree(_message(part)) for place, part in _fields(_message(value)) if place in _PARTS))
    return Other(())


def _selection(data: bytes) -> Tree:
    """A member by its name is a member by a text; whether there is one (`has`) is not."""
    told = dict(_fields(data))
    operand = _tree(_message(told[1]))
    return Other((operand,)) if told.get(3) else Call("_[_]", (operand, Constant(_text(told[2]))))


def _entries(data: bytes) -> Iterator[Tree]:
    """Keys and values of a map."""
    for place, entry in _fields(data):
        if place == _ENTRY:
            for part, value in _fields(_message(entry)):
                if part in (_KEY, _VALUE):
                    yield _tree(_message(value))


def _call(data: bytes) -> Tree:
    function, target, arguments = "", list[Tree](), list[Tree]()
    for number, value in _fields(data):
        if number == 1:
            target = [_tree(_message(value))]
        elif number == 2:
            function = _text(value)
        elif number == 3:
            arguments.append(_tree(_message(value)))
    return Call(f".{function}" if target else function, (*target, *arguments))


def _constant(data: bytes) -> Tree:
    (number, value), *_ = _fields(data)
    if number == 1:
        return Constant(None)
    if number == 2:
        return Constant(bool(value))
    if number == 3 and isinstance(value, int):
        return Constant(value - (1 << 64) if value >> 63 else value)
    if number == 5:
        return Constant(struct.unpack("<d", _message(value))[0])
    if number == 6:
        return Constant(_text(value))
    return Other(()) if number == 4 else Constant(_message(value) if isinstance(value, bytes) else b"")


def _fields(data: bytes) -> Iterator[tuple[int, _Wire]]:
    """Numbers and values of a message's fields, in order."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        size, at = (8, at) if kind == 1 else (4, at) if kind == 5 else _varint(data, at)
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _message(value: _Wire) -> bytes:
    assert isinstance(value, bytes)
    return value


def _text(value: _Wire) -> str:
    return _message(value).decode()
