"""What may be a KPI: it is evaluated for every outcome, so it must not hold anybody up."""

import pytest

from services.kit.cel import CelError, evaluate
from services.kit.kpis import check_kpi

_TEN = "[0,1,2,3,4,5,6,7,8,9]"


def nested(depth: int) -> str:
    made = "1"
    for at in range(depth):
        made = f"{_TEN}.map(x{at}, {made}).size()"
    return made


@pytest.mark.parametrize("expression", [nested(4), "string(b'\\xff')", "1 / 0", "size(facts.nothing)"])
def test_whatever_the_evaluator_raises_is_an_error_of_the_expression(expression: str) -> None:
    with pytest.raises(CelError):
        evaluate(expression, {"facts": {}})


def test_an_expression_that_the_evaluator_gives_up_at_is_refused() -> None:
    with pytest.raises(CelError, match="budget"):
        check_kpi(nested(4))


def test_an_expression_that_takes_long_or_is_long_is_refused() -> None:
    with pytest.raises(CelError, match="ms for one row"):
        check_kpi(f"{_TEN}.map(a, {_TEN}.map(b, {_TEN}.map(c, '{'a' * 700}'.matches('(a+)+b')))).size()")
    with pytest.raises(CelError, match="1000"):
        check_kpi("1" + " " * 1_000)


def test_a_text_is_no_kpi_and_what_is_a_number_for_some_rows_is_one() -> None:
    with pytest.raises(CelError, match="str, not a number"):
        check_kpi("'high'")
    for fine in (
        "label",
        "score > 0.5 ? 1 : 0",
        "segments.region == 'north' ? value : 0.0",
        "prediction == label",
        "double(label)",
    ):
        check_kpi(fine)
