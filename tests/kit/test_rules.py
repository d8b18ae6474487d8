"""Rules decide row by row, the first that holds; what is wrong with a table is said by the number of the rule."""

from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.kit import cel
from services.kit.models import TableModel, Unreadable, open_table

TABLE: dict[str, Any] = {
    "columns": ["income", "age"],
    "rules": [
        {"when": "age == null || age < 18", "decide": "refuse"},
        {"when": "income / 12.0 > 4000.0", "decide": "grant"},
    ],
    "otherwise": "ask",
}


def opened(**more: Any) -> TableModel:
    return open_table("rules", yaml.safe_dump({**TABLE, **more}).encode())


def test_the_first_rule_that_holds_decides_and_otherwise_where_none_does() -> None:
    rows = np.array([[60_000, 17], [60_000, np.nan], [60_000, 30], [10_000, 30]], np.float32)
    model = opened()
    assert model.predict(rows).tolist() == ["refuse", "refuse", "grant", "ask"]
    assert model.classes is not None and model.classes.tolist() == ["ask", "grant", "refuse"]
    assert (model.columns, model.names, model.scores) == (2, ("income", "age"), False)


def test_a_long_table_is_read_to_its_end() -> None:
    rules = [{"when": f"age == {number}.0", "decide": number} for number in range(100)]
    model = opened(rules=rules, otherwise=-1)
    rows = np.array([[0, number] for number in range(101)], np.float64)
    assert model.predict(rows).tolist() == [*range(100), -1]
    assert model.predict(rows).dtype == np.int64


@pytest.mark.parametrize(
    ("decisions", "kind", "classes"),
    [
        ((1, 0), "i", [0, 1]), ((True, False), "b", [False, True]), (("a", "b"), "O", ["a", "b"]),
        ((0.5, 1), "f", None), ((1.5, 2.5), "f", None),
    ],
)  # fmt: skip
def test_decisions_are_texts_numbers_or_truths(decisions: tuple[Any, Any], kind: str, classes: list[Any]) -> None:
    model = opened(rules=[{"when": "age < 18", "decide": decisions[0]}], otherwise=decisions[1])
    said = model.predict(np.array([[0, 1], [0, 20]], np.float32))
    assert (said.dtype.kind, said.tolist()) == (kind, list(decisions))
    assert (None if model.classes is None else model.classes.tolist()) == classes


def test_a_rule_that_cannot_be_evaluated_over_a_row_is_named() -> None:
    with pytest.raises(ValueError, match=r"rule 2 cannot be evaluated over this row: .*income / 12.0"):
        opened().predict(np.array([[np.nan, 30]], np.float32))


def test_a_rule_before_the_one_that_fails_decides() -> None:
    assert opened().predict(np.array([[np.nan, 10]], np.float32)).tolist() == ["refuse"]


def test_a_comment_ends_with_its_rule() -> None:
    rules = [
        {"when": "age < 18.0 // minors", "decide": "refuse"},
        {"when": "income > 4000.0\n", "decide": "grant"},
    ]
    rows = np.array([[0, 10], [5000, 10], [5000, 30], [0, 30]], np.float64)
    assert opened(rules=rules).predict(rows).tolist() == ["refuse", "refuse", "grant", "ask"]


_CLAIMS = st.sampled_from(
    [
        "age < 18.0", "income > 4000.0", "age == null", "true", "false", "age", "1 + 1", "income / age > 100.0",
        "age > 1.0 ? income > 1.0 : age < -1.0", "'a\\'(' == \"//\"", "r'\\' != ''", "'''(\n''' != 'x)' ",
        "{'//': age}['//'] > 2.0", "[1, 2].exists(x, double(x) > age)", "age < 18.0 ||\n!(income > 0.0)",
    ]
)  # fmt: skip
_ENDS = st.sampled_from(["", "\n"]) | st.sampled_from(
    [" // why", "//", " // ) ? 0 : (\n", "\n// 'open\n", " // a\r", " // \\", "\t\f\n", ")", " ("]
)


def alone(whens: list[str], facts: dict[str, Any]) -> int | None:
    """What the rules say one by one: the first that holds, -1 where none does, None where one has no answer."""
    for number, when in enumerate(whens):
        try:
            if cel.holds(when, facts):
                return number
        except cel.CelError:
            return None
    return -1


@given(
    st.lists(st.tuples(_CLAIMS, _ENDS).map("".join), min_size=1, max_size=20),
    st.lists(st.sampled_from([None, -2.0, 0.0, 17.0, 5000.0]), min_size=2, max_size=2),
)
def test_rules_that_are_asked_together_say_what_they_say_one_by_one(whens: list[str], row: list[float | None]) -> None:
    rules = [{"when": when, "decide": number} for number, when in enumerate(whens)]
    try:
        model = opened(rules=rules, otherwise=-1)
    except Unreadable:
        return  # one of them does not compile
    expected = alone(whens, {"income": row[0], "age": row[1]})
    matrix = np.array([[np.nan if value is None else value for value in row]])
    if expected is None:
        with pytest.raises(ValueError, match="cannot be evaluated"):
            model.predict(matrix)
    else:
        assert model.predict(matrix).tolist() == [expected]


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="2 columns, not 3"):
        opened().predict(np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"rules": []}, "rules: a list"), ({"rules": [{"when": "true"}]}, "rule 1"), ({"more": 1}, "nothing else"),
        ({"rules": [{"when": "age <", "decide": 1}], "otherwise": 0}, "rule 1: `age <`"),
        ({"rules": [{"when": "zip == 1.0", "decide": 1}], "otherwise": 0}, "rule 1: `zip == 1.0`"),
        ({"rules": [{"when": "true) ? 7 : (true", "decide": 1}], "otherwise": 0}, "rule 1"),
        ({"rules": [{"when": True, "decide": 1}], "otherwise": 0}, "rule 1: `when`"),
        ({"columns": []}, "columns"), ({"columns": ["a", "a"]}, "twice"), ({"columns": [1]}, "columns"),
        ({"otherwise": 1}, "must decide texts, or"), ({"otherwise": None}, "must decide"),
        ({"rules": [{"when": "true", "decide": 2**63}], "otherwise": 0}, "64 bits"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_by_place(more: dict[str, Any], says: str) -> None:
    with pytest.raises(Unreadable) as told:
        opened(**more)
    assert says in str(told.value)


@pytest.mark.parametrize("data", [b"", b"- 1", b"columns: [", b"\xff", b"rules: &a [*a]", b"[" * 100_000])
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        open_table("rules", data)
