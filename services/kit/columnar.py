"""CEL over whole columns: what an expression says of each row, by numpy where the row-by-row evaluator says the same.

The evaluator's own parser is used: an expression is the tree that it compiled. Values are numbers, texts and truths,
each missing (null) or in error in some rows; operators take errors as CEL does (https://github.com/google/cel-spec):
`&&` and `||` do without an operand that does not matter. Whatever is not in `_CALLS` is for `cel.evaluate`, by row.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .cel_tree import Call, Constant, Items, Name, Tree

Array = NDArray[Any]
Kind = Literal["number", "whole", "text", "truth", "null"]

COLUMNS = "columns"
"""By this name an expression speaks of columns whose names are no names in CEL: `columns["loan amount"]`."""
_EXACT = 2**53
"""Up to here a whole number is a double as well."""


class NotColumnar(Exception):
    """An expression, or columns, for the evaluator that takes row by row."""


@dataclass(frozen=True)
class Said:
    """What a part of an expression is in each row; every array is [rows], or [] where it is the same in all."""

    kind: Kind
    values: Array
    null: Array
    error: Array

    @property
    def usable(self) -> Array:
        """Neither missing nor in error."""
        return ~(self.null | self.error)


@dataclass(frozen=True)
class Truths:
    """What a condition is in each row [rows]: true, false, or neither, for it cannot be evaluated."""

    true: Array
    false: Array


Columns = Mapping[str, Array]
_NO: Array = np.array(False)
_YES: Array = np.array(True)


def is_columnar(tree: Tree) -> bool:
    """Whether an expression has nothing but what is known here; of some columns it may still need the other way."""
    match tree:
        case Constant(value):
            small = type(value) is int and abs(value) < _EXACT
            return small or value is None or isinstance(value, bool | float | str)
        case Name():
            return tree.name != COLUMNS
        case Call("_[_]", (Name(name), Constant(key))):
            return name == COLUMNS and isinstance(key, str)
        case Call("@in", (item, Items(items))):
            return is_columnar(item) and all(map(is_columnar, items))
        case Call(function, arguments):
            return function in _CALLS and all(map(is_columnar, arguments))
        case _:
            return False


def comparisons(tree: Tree) -> int:
    """What a row of a columnar expression costs, in comparisons of two numbers: some 5 ns each."""
    match tree:
        case Constant(value):
            return _TEXT if isinstance(value, str) else 1
        case Call("@in", (item, Items(items))):
            return comparisons(item) + _LOOKED_UP + sum(comparisons(e) for e in items if not isinstance(e, Constant))
        case Items(some) | Call(_, some):
            return 1 + sum(map(comparisons, some))
        case _:
            return 1


_TEXT, _LOOKED_UP = 4, 16
"""What a text, and looking for something in a list, costs in comparisons."""


def truths(tree: Tree, cells: "Cells", rows: int) -> Truths:
    """A condition in each of `rows` rows of `cells`. Raises NotColumnar."""
    with np.errstate(all="ignore"):
        said = _truth(_said(tree, cells))
    shape = (rows,)
    return Truths(
        np.broadcast_to(said.values & ~said.error, shape), np.broadcast_to(~(said.values | said.error), shape)
    )


class Cells:
    """Columns, and `others` beside them, each read once, when it is needed; what is among neither is missing."""

    def __init__(self, columns: Columns, others: Columns, places: Array | None = None) -> None:
        self._columns, self._named, self._places = columns, {**columns, **others}, places
        self._read: dict[tuple[str, bool], Said] = {}

    def get(self, name: str, *, member: bool) -> Said:
        """A variable, or a member of `columns`. Raises NotColumnar."""
        if (name, member) not in self._read:
            values = (self._columns if member else self._named).get(name)
            if values is not None and self._places is not None:
                values = values[self._places]
            self._read[name, member] = _constant(None) if values is None else _column(values)
        return self._read[name, member]

    def at(self, places: Array) -> "Cells":
        """Of these rows alone."""
        return Cells(self._columns, self._named, places)


def _column(values: Array) -> Said:
    """Numbers, of which NaN is a missing one; of objects texts, or numbers. Raises NotColumnar for both in one."""
    if values.dtype != object:
        numbers = values.astype(np.float64, copy=False)
        return Said("number", numbers, np.isnan(numbers), _NO)
    if {*map(type, values.tolist())} == {str}:
        return Said("text", values, _NO, _NO)
    null = np.array([each is None or each != each for each in values], bool)
    kinds = {type(each) for each in values[~null]}
    if kinds <= {str}:
        texts = values.copy()
        texts[null] = ""
        return Said("text", texts, null, _NO)
    if kinds <= {float}:
        return _column(np.where(null, np.nan, values).astype(np.float64))
    raise NotColumnar


@lru_cache(maxsize=1024, typed=True)
def _constant(value: bool | float | str | None) -> Said:
    if value is None:
        return Said("null", _NO, _YES, _NO)
    kinds: dict[type, Kind] = {bool: "truth", int: "whole", float: "number", str: "text"}
    # A text of no dimension would become one of numpy's own, which drops what is behind its last letter: NUL.
    made = np.empty((), object) if isinstance(value, str) else np.array(value)
    made[()] = value
    return Said(kinds[type(value)], made, _NO, _NO)


def _said(tree: Tree, cells: Cells) -> Said:
    match tree:
        case Constant(value) if not isinstance(value, bytes):
            return _constant(value)
        case Name(name):
            return cells.get(name, member=False)
        case Call("_[_]", (Name(_), Constant(str(key)))):
            return cells.get(key, member=True)
        case Call("@in", (item, Items(items))):
            return _among(_said(item, cells), items, cells)
        case Call(function, arguments) if function in _CALLS:
            return _CALLS[function]([_said(each, cells) for each in arguments])
        case _:
            raise NotColumnar


def _truth(said: Said) -> Said:
    """An operand of logic: whatever is no truth is an error."""
    if said.kind != "truth":
        return Said("truth", _NO, _NO, _YES)
    return Said("truth", said.values, _NO, said.error | said.null)


def _both(operands: Sequence[Said]) -> Said:
    """False where one is false, true where all are true, else in error."""
    found = [_truth(each) for each in operands]
    false = _any(~(each.values | each.error) for each in found)
    return Said("truth", ~false, _NO, ~false & _any(each.error for each in found))


def _either(operands: Sequence[Said]) -> Said:
    return _not([_both([_not([each]) for each in operands])])


def _not(operands: Sequence[Said]) -> Said:
    found = _truth(operands[0])
    return Said("truth", ~found.values, _NO, found.error)


def _any(masks: Any) -> Array:
    found = _NO
    for each in masks:
        found = found | each
    return found


def _numeric(*some: Said) -> bool:
    return all(each.kind in ("number", "whole") for each in some)


def _equal(operands: Sequence[Said]) -> Said:
    """Of two kinds nothing is equal; missing ones are equal to one another alone."""
    one, other = operands
    alike = _NO
    if _numeric(one, other) or (one.kind == other.kind and one.kind != "null"):
        alike = np.asarray(one.values == other.values, bool)
    same = (one.null & other.null) | (alike & ~(one.null | other.null))
    return Said("truth", same, _NO, one.error | other.error)


def _unequal(operands: Sequence[Said]) -> Said:
    return _not([_equal(operands)])


def _among(item: Said, items: Sequence[Tree], cells: Cells) -> Said:
    """Literals are looked up at once, however many they are."""
    others = [_said(each, cells) for each in items if not isinstance(each, Constant)]
    same = _among_literals(item, frozenset((type(e.value), e.value) for e in items if isinstance(e, Constant)))
    found = _any(_equal([item, each]).values for each in others)
    return Said("truth", same | found, _NO, item.error | _any(each.error for each in others))


def _among_literals(item: Said, literals: frozenset[tuple[type, Any]]) -> Array:
    usable = {value for kind, value in literals if kind in _LITERALS[item.kind]}
    alike = _NO
    if usable and item.kind == "text":
        alike = np.array([each in usable for each in item.values.ravel()], bool).reshape(item.values.shape)
    elif usable:
        ordered = np.array(sorted(usable))
        places = np.minimum(np.searchsorted(ordered, item.values), len(ordered) - 1)
        alike = np.asarray(ordered[places] == item.values, bool)
    return (item.null & ((type(None), None) in literals)) | (alike & ~item.null)


_LITERALS: Mapping[Kind, tuple[type, ...]] = {
    "number": (int, float), "whole": (int, float), "text": (str,), "truth": (bool,), "null": (),
}  # fmt: skip
"""What may be equal to what is of a kind."""


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[Sequence[Said]], Said]:
    def compared(operands: Sequence[Said]) -> Said:
        one, other = operands
        if not (_numeric(one, other) or (one.kind == other.kind and one.kind in ("text", "truth"))):
            return Said("truth", _NO, _NO, _YES)
        values = np.asarray(compare(one.values, other.values), bool)
        return Said("truth", values, _NO, ~(one.usable & other.usable))

    return compared


def _calculated(calculate: Callable[[Any, Any], Any]) -> Callable[[Sequence[Said]], Said]:
    """Of doubles; a whole number and a double are not reckoned with one another."""

    def calculated(operands: Sequence[Said]) -> Said:
        one, other = operands
        if one.kind == other.kind == "whole" or "text" in (one.kind, other.kind):
            raise NotColumnar
        if not one.kind == other.kind == "number":
            return Said("number", np.array(0.0), _NO, _YES)
        return Said("number", calculate(one.values, other.values), _NO, ~(one.usable & other.usable))

    return calculated


def _negative(operands: Sequence[Said]) -> Said:
    (one,) = operands
    if not _numeric(one):
        return Said("number", np.array(0.0), _NO, _YES)
    return Said(one.kind, -one.values, _NO, ~one.usable)


def _chosen(operands: Sequence[Said]) -> Said:
    """What is not chosen does not matter. Raises NotColumnar where it is of another kind."""
    when, then, otherwise = _truth(operands[0]), *operands[1:]
    kind = otherwise.kind if then.kind == "null" else then.kind
    if otherwise.kind not in (kind, "null"):
        raise NotColumnar
    one, other = (each.values if each.kind == kind else _FILLING[kind] for each in (then, otherwise))
    null = np.where(when.values, then.null, otherwise.null)
    error = when.error | np.where(when.values, then.error, otherwise.error)
    return Said(kind, np.where(when.values, one, other), null & ~error, error)


_FILLING: Mapping[Kind, Array] = {
    "number": np.array(0.0), "whole": np.array(0), "text": np.array("", object), "truth": _NO, "null": _NO,
}  # fmt: skip
"""What stands where nothing is."""


_CALLS: Mapping[str, Callable[[Sequence[Said]], Said]] = {
    "_&&_": _both, "_||_": _either, "!_": _not, "_?_:_": _chosen, "_==_": _equal, "_!=_": _unequal,
    "_<_": _compared(operator.lt), "_<=_": _compared(operator.le), "_>_": _compared(operator.gt),
    "_>=_": _compared(operator.ge), "_+_": _calculated(operator.add), "_-_": _calculated(operator.sub),
    "_*_": _calculated(operator.mul), "_/_": _calculated(np.divide), "-_": _negative,
}  # fmt: skip
