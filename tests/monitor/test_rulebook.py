"""Business rules over rows: which are looked at, what breaks a rule, and what cannot be one."""

from typing import Any

import numpy as np
import pytest

from contracts import (
    ModelSchema,
    Rule,
)
from services.kit import cel, columnar, plain
from services.kit.payloads import Payload
from services.kit.rulebook import ROWS_AT_LEAST, Rulebook
from services.kit.rules import Facts, check_rule, unfit
from services.monitor.domain.rules import Evidence, Key, Rules
from services.monitor.usecases.summary import Wanted, summary
from services.monitor.usecases.versions import Watched

from . import streams
from .counting import inference

LIMIT = Rule(must="a <= 3.0")
_TEN = "[0,1,2,3,4,5,6,7,8,9]"
SCHEMA = streams.schema()


def counted(rows: list[list[float]], of: list[int], rules: dict[str, Rule]) -> Rules:
    """Of rows, asked for in requests of so many, with 1 decided of all."""
    members, at = list[Any](), 0
    for place, size in enumerate(of):
        asked, decided = np.array(rows[at : at + size], float), np.ones(size)
        answer = plain.PlainAnswer(decided.tobytes(), np.tile([0.2, 0.8], size).tobytes())
        members.append(inference(Payload(size, asked.tobytes(), answer), float(place), 1.0))
        at += size
    part, unfit = summary(
        Watched(None, SCHEMA, None, None), members, 25, 8, Wanted(0, 0.0, Rulebook.of(Facts.of(SCHEMA), rules))
    )
    assert unfit == [] and part.rows == len(rows)
    return part.rules


def row(a: float) -> list[float]:
    return [a, *[0.0] * (len(SCHEMA.columns) - 1)]


def test_every_row_is_looked_at_and_the_first_decisions_that_broke_a_rule_are_named() -> None:
    rows = [row(a) for a in (1.0, 9.0, 8.0, float("nan"), 1.0, 7.0, 6.0, 5.0)]
    found = counted(rows, [1, 2, 3, 1, 1], {"limit": LIMIT, "by-row": Rule(must="string(a) != '7'"),
                                            "decided": Rule(must="!(prediction == 1 && a > 8.0)")}).by  # fmt: skip
    limit = found[Key("limit", LIMIT.must)]
    assert (limit.rows, limit.broken, limit.undecided) == (8, 5, 1)
    assert limit.first == (Evidence(1.0, "of-1.0", 0), Evidence(2.0, "of-2.0", 2), Evidence(3.0, "of-3.0", 0))
    by_row = found[Key("by-row", "string(a) != '7'")]
    assert (by_row.rows, by_row.broken, by_row.undecided, by_row.first) == (8, 1, 1, (Evidence(2.0, "of-2.0", 2),))
    decided = found[Key("decided", "!(prediction == 1 && a > 8.0)")]
    assert (decided.broken, decided.undecided) == (1, 1)


def test_a_rule_that_was_set_for_other_columns_has_no_truth_for_any_row() -> None:
    (tally,) = counted([row(1.0)] * 3, [3], {"old": Rule(must="gone > 1.0")}).by.values()
    assert (tally.rows, tally.broken, tally.undecided) == (3, 0, 3)


def called(*names: str) -> ModelSchema:
    """A schema of columns of numbers with these names."""
    return SCHEMA.model_copy(update={"columns": tuple(SCHEMA.columns[0].model_copy(update={"name": n}) for n in names)})


@pytest.mark.parametrize(
    "name", ["type", "int", "double", "string", "bool", "bytes", "uint", "list", "map", "dyn", "null_type"]
)
def test_a_column_that_is_called_as_a_type_of_cel_is_asked_by_columns(name: str) -> None:
    schema = called("a", name)
    for must in ("a <= 3.0", f"columns['{name}'] <= 3.0"):
        check_rule(must, schema)
        (found,) = Rulebook.of(Facts.of(schema), {"one": Rule(must=must)}).look(
            {"a": np.array([1.0, 4.0]), name: np.array([1.0, 4.0])}, np.ones(2), None, 1.0)  # fmt: skip
        assert (found.broken.tolist(), found.undecided.any()) == ([False, True], False)
    for must in (f"{name} <= 3.0", f"{name} != a"):
        with pytest.raises(ValueError, match=rf"{name} by itself is a type of CEL.*columns\['{name}'\]"):
            check_rule(must, schema)


@pytest.mark.parametrize(
    "must", ["a <= {'1': 100.0, '2': b}[string(c)]", "a <= {string(b): b}[string(c)]", "{'x': a <= columns['b']}.x"]
)
def test_what_stands_in_a_map_is_asked_for(must: str) -> None:
    schema = called("a", "b", "c")
    check_rule(must, schema)
    columns = {"a": np.array([1.0, 4.0]), "b": np.array([2.0, 2.0]), "c": np.array([2.0, 2.0])}
    (found,) = Rulebook.of(Facts.of(schema), {"one": Rule(must=must)}).look(columns, np.ones(2), None, 1.0)
    assert (found.broken.tolist(), found.undecided.any()) == ([False, True], False)


def test_a_member_in_a_map_that_is_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match="x y is not a column"):
        check_rule("a <= {'one': columns['x y']}['one']", SCHEMA)


def test_rows_that_there_is_no_time_for_are_not_looked_at() -> None:
    columns = {"a": np.arange(5_000.0)}
    slow = {f"slow-{number}": Rule(must=f"string(a) != '{number}'") for number in range(4)}
    *slows, fast = Rulebook.of(Facts.of(SCHEMA), {**slow, "fast": LIMIT}).look(columns, np.ones(5_000), None, 0.0)
    assert [each.looked.sum() for each in slows] == [ROWS_AT_LEAST] * 4, "no rule waits for another one"
    assert fast.looked.all() and fast.broken.sum() == 4_996


def test_rules_that_go_row_by_row_share_the_time() -> None:
    slow = {f"slow-{number}": Rule(must=f"string(a) != '{number}'") for number in range(3)}
    found = Rulebook.of(Facts.of(SCHEMA), slow).look({"a": np.arange(200_000.0)}, np.ones(200_000), None, 0.6)
    assert all(ROWS_AT_LEAST < each.looked.sum() < 200_000 for each in found)
    for each in found:
        places = np.flatnonzero(each.looked)
        assert 60_000 < places.mean() < 140_000, "evenly spread"


def test_columns_are_looked_at_in_as_many_rows_as_there_are_comparisons_for() -> None:
    dear = " && ".join(f"a != {number}.5" for number in range(40))
    rules = {"dear": Rule(must=dear), "limit": LIMIT, "other": Rule(must="a >= 10.0")}
    found = Rulebook.of(Facts.of(SCHEMA), rules).look({"a": np.arange(10_000.0)}, np.ones(10_000), None, 1.0, 300_000)
    one, limit, other = found
    assert limit.looked.all() and other.looked.all() and (limit.broken.sum(), other.broken.sum()) == (9_996, 10)
    places = np.flatnonzero(one.looked)
    assert 1_000 < len(places) < 2_500 and not one.broken.any() and not one.undecided.any()
    assert 4_000 < places.mean() < 6_000, "evenly spread"
    (few,) = Rulebook.of(Facts.of(SCHEMA), {"limit": LIMIT}).look(
        {"a": np.arange(9_000.0)}, np.ones(9_000), None, 1.0, 9_000
    )
    assert few.looked.sum() == 3_000 and (few.broken == (few.looked & (np.arange(9_000) > 3))).all()


def test_many_texts_of_a_list_cost_as_one() -> None:
    names = frozenset({"a"})

    def cost(many: int) -> int:
        return columnar.comparisons(cel.tree(f"a in [{', '.join(repr(str(each)) for each in range(many))}]", names))

    assert cost(150) == cost(2) < columnar.comparisons(cel.tree("a == '1' || a == '2' || a == '3'", names))


def test_a_rule_is_given_what_it_asks_for_and_looked_at_once_for_each_row_that_may_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = called(*(f"c{number}" for number in range(1_000)))
    given, evaluate = list[dict[str, Any]](), cel.evaluate

    def counted(expression: str, facts: dict[str, Any]) -> Any:
        given.append(facts)
        return evaluate(expression, facts)

    monkeypatch.setattr(cel, "evaluate", counted)
    for must in ("c1 <= c2", "columns['c1'] <= c2 && string(c2) != ''", "size(columns) == 1000"):
        rule = {"one": Rule(must=must)}
        assert unfit(rule, Facts.of(wide), wide) == {}
        assert len(given) == 8
        members = {name: len(value) for name, value in given[0].items() if isinstance(value, dict)}
        assert {*given[0]} <= {"c1", "c2", "columns"}
        assert members == ({} if "columns" not in must else {"columns": 1_000 if "size" in must else 1})
        given.clear()


SLOW = f"{_TEN}.all(x, {_TEN}.all(y, {_TEN}.all(z, !'{'a' * 500}'.matches('(a+)+b'))))"


@pytest.mark.parametrize(
    ("must", "why"),
    [
        ("limt > 1.0", "undeclared reference to 'limt'.*the columns are: a, b"),
        ("a +", "ERROR"),
        ("columns['x y'] > 1.0", "x y is not a column"),
        ("a + 1.0", "float, not true or false"),
        ("a * 2 > 3", "every number of a row is a double"),
        ("a * 2 > 3.0", "every number of a row is a double"),
        ("a > 1.0 //" + " " * 1_000, "may have 1000"),
        ("secret > 1.0", "column secret is sensitive"),
        ("columns.secret == 1.0", "column secret is sensitive"),
        (SLOW, "ms for one row"),
    ],
)
def test_what_cannot_be_a_rule_is_refused_with_its_reason(must: str, why: str) -> None:
    secret = SCHEMA.columns[0].model_copy(update={"name": "secret", "sensitive": True})
    with pytest.raises(ValueError, match=why):
        check_rule(must, SCHEMA.model_copy(update={"columns": (*SCHEMA.columns, secret)}))
