"""CEL, the only language that a policy or a diagram may speak (https://cel.dev): no loops, no I/O, no Python."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

from . import cel_tree

_INT64 = range(-(2**63), 2**63)
_SCALARS = (str, float, bool, type(None))


class CelError(ValueError):
    """An expression that does not compile, or does not evaluate over these facts."""


class CelTooMuch(CelError):
    """It would never have a value: more iterations than the evaluator allows, or something else that it gives up at."""


def evaluate(expression: str, facts: Mapping[str, Any]) -> Any:
    """The value of an expression over plain JSON facts. Raises CelError."""
    checked = {name: plain(value, name) for name, value in facts.items()}
    compiled = _compiled(expression, frozenset(checked))
    try:
        result = compiled.eval(data=checked)
        value = result.plain_value()
    except Exception as error:  # noqa: BLE001 - a C++ library's: too many iterations, a text that is no UTF-8
        raise CelTooMuch(f"`{expression[:300]}`: {str(error)[:300]}") from None
    # The library answers an error as a value, and its text would count as true.
    if result.type() == cel.Type.ERROR:
        raise CelError(f"`{expression[:300]}`: {str(value)[:300]}")
    return value


def holds(expression: str, facts: Mapping[str, Any]) -> bool:
    """Whether a condition is true. Raises CelError for one whose value is no boolean."""
    value = evaluate(expression, facts)
    if value is not True and value is not False:
        raise CelError(f"`{expression}` is {type(value).__name__}, not a boolean")
    return value


def check(expression: str, names: frozenset[str]) -> None:
    """Compile an expression over these variables. Raises CelError with the place of the mistake."""
    _compiled(expression, names)


def plain(value: Any, where: str) -> Any:
    """The value as CEL may see it. Raises CelError.

    Integers beyond int64 would become another number in silence, and scalars of numpy another type or an error text.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        if value not in _INT64:
            raise CelError(f"{where} is beyond 64 bits")
        return value
    if kind is dict:
        return {_name(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if kind in (list, tuple):
        return [plain(item, f"{where}[{place}]") for place, item in enumerate(value)]
    raise CelError(f"{where} is a {kind.__module__}.{kind.__name__}, which CEL does not take")


def _name(key: object, where: str) -> str:
    if type(key) is not str:
        raise CelError(f"{where} has a member that is not named by a string")
    return key


@lru_cache(maxsize=1024)
def _compiled(expression: str, names: frozenset[str]) -> cel.Expression:
    try:
        return _environment(names).compile(expression)
    except RuntimeError as error:
        raise CelError(f"`{expression[:300]}`: {_first_line(error)}") from None


@lru_cache(maxsize=64)
def _environment(names: frozenset[str]) -> cel.Env:
    return cel.NewEnv(variables=dict.fromkeys(sorted(names), cel.Type.DYN))


def _first_line(error: RuntimeError) -> str:
    return str(error).removeprefix("INVALID_ARGUMENT: ").splitlines()[0][:300]


@lru_cache(maxsize=1024)
def tree(expression: str, names: frozenset[str]) -> cel_tree.Tree:
    """What an expression over these variables is made of. Raises CelError."""
    return cel_tree.read(_compiled(expression, names).serialize())
