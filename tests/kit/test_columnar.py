"""What CEL says of whole columns is what it says of each row by itself."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit import cel, columnar

NAMES = frozenset({"a", "b", "s", "t", "never", "prediction", "columns"})
_numbers = st.sampled_from([None, 0.0, 1.0, -1.0, 2.0, 0.5, 1e300, float("inf"), 3.0])
# None with a NUL: the evaluator, unlike the columns, takes what stands before it for the whole.
_texts = st.sampled_from([None, "", "a", "b", "Z", "é", "1", "a b"])
_literal = st.sampled_from(
    [
        "0",
        "1",
        "-1",
        "2",
        "1.0",
        "0.5",
        "-2.5",
        "1e300",
        "'a'",
        "'b'",
        "''",
        "'1'",
        "'a\\u0000'",
        "true",
        "false",
        "null",
    ]
)
_leaf = st.one_of(
    st.sampled_from(["a", "b", "s", "t", "never", "prediction", "columns.a", "columns['s']", "columns['odd name']"]),
    _literal,
)
_WHOLE = ["==", "!=", "<", "<=", ">", ">=", "&&", "||", "+", "-", "*", "/"]


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(_WHOLE), inner).map(lambda each: f"({each[0]} {each[1]} {each[2]})"),
        inner.map(lambda each: f"!{each}"),
        inner.map(lambda each: f"-({each})"),
        st.tuples(inner, inner, inner).map(lambda each: f"({each[0]} ? {each[1]} : {each[2]})"),
        st.tuples(inner, st.lists(inner, min_size=1, max_size=3)).map(
            lambda each: f"({each[0]} in [{', '.join(each[1])}])"
        ),
    )


EXPRESSIONS = st.recursive(_leaf, _grown, max_leaves=8)
"""Of whatever kinds: most of them are in error somewhere."""


def _drawn(form: str, **parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.fixed_dictionaries(parts).map(lambda said: form.format(**said))


_condition: st.SearchStrategy[str] = st.deferred(lambda: _CONDITION)
_number: st.SearchStrategy[str] = st.deferred(lambda: _NUMBER)
_text: st.SearchStrategy[str] = st.deferred(lambda: _TEXT)
_NUMBER = st.one_of(
    st.sampled_from(["a", "b", "prediction", "columns.a", "columns['odd name']", "never", "1.0", "0.5", "-2.5"]),
    _drawn("({x} {op} {y})", x=_number, y=_number, op=st.sampled_from(["+", "-", "*", "/"])),
    _drawn("(-{x})", x=_number),
    _drawn("({when} ? {x} : {y})", when=_condition, x=_number, y=st.one_of(_number, st.just("null"))),
)
_TEXT = st.one_of(
    st.sampled_from(["s", "t", "columns['s']", "'a'", "'b'", "'1'", "''"]),
    _drawn("({when} ? {x} : {y})", when=_condition, x=st.one_of(_text, st.just("null")), y=_text),
)
_orders = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_CONDITION = st.one_of(
    _drawn("{x} {op} {y}", x=_number, y=st.one_of(_number, st.sampled_from(["1", "0", "2"])), op=_orders),
    _drawn("{x} {op} {y}", x=_text, y=_text, op=_orders),
    _drawn("{x} {op} null", x=st.one_of(_number, _text), op=st.sampled_from(["==", "!="])),
    _drawn("{x} in [{y}, {z}]", x=_number, y=_number, z=st.sampled_from(["1", "2.0", "b", "null", "'a'"])),
    _drawn("{x} in [{y}, 'b']", x=_text, y=_text),
    _drawn("{x} in [{y}, {z}, {w}]", x=st.one_of(_number, _text, _condition), y=_literal, z=_literal, w=_literal),
    _drawn("({x} {op} {y})", x=_condition, y=_condition, op=st.sampled_from(["&&", "||", "==", "<"])),
    _drawn("!({x})", x=_condition),
    _drawn("({when} ? {x} : {y})", when=_condition, x=_condition, y=_condition),
)
"""Of kinds that fit: as people write them."""
ROWS = st.lists(st.tuples(_numbers, _numbers, _texts, _texts, _numbers, _numbers), min_size=1, max_size=6)


def columns_of(rows: list[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    a, b, s, t, odd, _ = zip(*rows, strict=True)
    made: dict[str, np.ndarray] = {
        name: np.array(values, float) for name, values in (("a", a), ("b", b), ("odd name", odd))
    }
    for name, values in (("s", s), ("t", t)):
        made[name] = np.empty(len(rows), object)
        made[name][:] = values
    return made


def row_by_row(expression: str, rows: list[tuple[Any, ...]]) -> list[bool | None]:
    said: list[bool | None] = []
    for a, b, s, t, odd, decided in rows:
        members = {"a": a, "b": b, "s": s, "t": t, "odd name": odd}
        facts = {"a": a, "b": b, "s": s, "t": t, "never": None, "prediction": decided, "columns": members}
        try:
            said.append(cel.holds(expression, facts))
        except cel.CelError:
            said.append(None)
    return said


def at_once(expression: str, rows: list[tuple[Any, ...]]) -> list[bool | None]:
    decided = np.array([row[-1] for row in rows], float)
    found = columnar.truths(
        cel.tree(expression, NAMES), columnar.Cells(columns_of(rows), {"prediction": decided}), len(rows)
    )
    assert not (found.true & found.false).any()
    return [True if t else False if f else None for t, f in zip(found.true, found.false, strict=True)]


@settings(max_examples=1_500, deadline=None)
@given(expression=st.one_of(_condition, EXPRESSIONS), rows=ROWS)
def test_a_condition_over_columns_is_what_the_evaluator_says_of_each_row(
    expression: str, rows: list[tuple[Any, ...]]
) -> None:
    try:
        tree = cel.tree(expression, NAMES)
    except cel.CelError:
        return
    if not columnar.is_columnar(tree):
        return
    try:
        said = at_once(expression, rows)
    except columnar.NotColumnar:
        return
    assert said == row_by_row(expression, rows)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("!(prediction == 1 && a > 2.5)", [True, False, None, True]),
        ("a <= b", [True, False, None, None]),
        ("a in [1, 3] || s == 'x'", [True, True, True, False]),
        ("columns['odd name'] == null", [False, False, True, False]),
        ("s < 'b' ? a * 2.0 < 3.0 : true", [True, False, True, None]),
        ("a * 2 > 1", [None] * 4),
        ("(a > 2.5 ? s : null) == null", [True, False, None, True]),
        ("(prediction == 1 ? a : null) != null", [True, True, False, False]),
    ],
)
def test_known_rules_over_known_rows(expression: str, said: list[bool | None]) -> None:
    rows = [(1.0, 2.0, "a", "", 1.0, 1.0), (3.0, 2.0, "a", "", 1.0, 1.0), (None, 2.0, "x", "", None, 1.0),
            (9.0, None, None, "", 1.0, 0.0)]  # fmt: skip
    assert at_once(expression, rows) == said == row_by_row(expression, rows)


@pytest.mark.parametrize(
    ("expression", "is_it"),
    [("a.startsWith('x')", False), ("[1, 2].exists(x, x == a)", False), ("size(s) > 2", False), ("a > 1u", False),
     ("has(columns.a)", False), ("a in b", False), ("a > 9007199254740993", False), ("b'x' == s", False),
     ("columns.a > 1.0 && s in ['x', 'y']", True)],
)  # fmt: skip
def test_what_numpy_does_not_say_is_left_to_the_evaluator(expression: str, is_it: bool) -> None:
    assert columnar.is_columnar(cel.tree(expression, NAMES)) is is_it


def test_a_column_of_both_numbers_and_texts_is_left_to_the_evaluator() -> None:
    mixed = np.empty(2, object)
    mixed[:] = ["a", 1.0]
    with pytest.raises(columnar.NotColumnar):
        columnar.truths(cel.tree("s == 'a'", NAMES), columnar.Cells({"s": mixed}, {}), 2)
