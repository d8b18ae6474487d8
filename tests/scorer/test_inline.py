"""What the event loop bears of a model: learned, lowered, and tried again."""

import numpy as np

from services.scorer.inline import InlineBudget
from services.scorer.runtimes import Arrays

ONE, MANY = {"x": np.ones(1)}, {"x": np.ones(32)}


def budget(rows: int) -> InlineBudget:
    made = InlineBudget(inline_ms=1.0)
    made.learn(rows)
    return made


def slow(one: InlineBudget, calls: int, rows: int = 1) -> None:
    for _ in range(calls):
        one.strike(rows)


def good(one: InlineBudget, calls: int, rows: int = 1) -> None:
    for _ in range(calls):
        one.elsewhere(0.0005, rows)


async def measured(costs: dict[int, float], many: Arrays | None = MANY) -> int:
    async def timed(inputs: Arrays) -> float:
        return costs[len(inputs["x"])]

    return await InlineBudget(1.0).measure(timed, ONE, many, 32, 4096)


async def test_as_many_rows_are_borne_as_fit_the_time() -> None:
    assert await measured({1: 0.0002, 32: 0.0002 + 31 * 0.0001}) in (8, 9)
    assert await measured({1: 0.0002, 32: 0.0002}) == 4096
    assert await measured({1: 0.002}) == 0
    assert await measured({1: 0.0002}, many=None) == 1


def test_slow_calls_in_a_row_lower_it_and_one_that_was_not_forgives() -> None:
    one = budget(16)
    slow(one, 7, 16)
    one.fair()
    slow(one, 7, 16)
    assert (one.rows, one.lowered) == (16, 0)
    slow(one, 1, 16)
    assert (one.rows, one.lowered) == (8, 1)


def test_good_calls_in_the_thread_double_it_up_to_what_was_measured() -> None:
    one = budget(3)
    slow(one, 8)
    assert one.rows == 0
    for rows, after in ((1, 1), (2, 2), (3, 3)):
        good(one, 64, rows)
        assert one.rows == after
    good(one, 1000, 50)
    assert one.rows == 3


def test_calls_that_say_nothing_of_more_rows_change_nothing() -> None:
    one = budget(8)
    slow(one, 8, 8)
    good(one, 1000, rows=4)
    assert one.rows == 4, "it takes as many already: they waited for the one before"
    good(one, 63, rows=8)
    one.elsewhere(0.5, 100)
    good(one, 1, rows=8)
    assert one.rows == 8, "that a hundred rows are slow was known"
    slow(one, 8, 8)
    good(one, 63, rows=8)
    one.elsewhere(0.5, 8)
    good(one, 63, rows=8)
    assert one.rows == 4


def test_a_model_that_slept_is_borne_as_before() -> None:
    one = InlineBudget(1.0)
    one.sleeps()
    assert not one.wakes(), "it was never measured"
    one.learn(16)
    slow(one, 8, 8)
    one.sleeps()
    one.sleeps()
    assert one.rows == 0
    assert one.wakes() and one.rows == 4
    dear = budget(0)
    dear.sleeps()
    assert dear.wakes() and dear.rows == 0
