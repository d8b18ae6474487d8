"""How many rows of a model fit a call: learned of what was too long, and tried again."""

from services.scorer.callsize import CallSize


def test_a_call_that_was_too_long_halves_it_down_to_a_row() -> None:
    size = CallSize()
    assert size.rows > 1_000_000
    size.too_long(4_000, 10.0)
    assert size.rows == 2_000
    size.too_long(500, 10.0)
    assert size.rows == 250
    for _ in range(20):
        size.too_long(size.rows, 10.0)
    assert size.rows == 1


def test_it_grows_where_calls_leave_time_and_stays_where_they_do_not() -> None:
    size = CallSize()
    size.too_long(4_000, 10.0)
    for _ in range(100):
        size.took(2_000, 6.0)
    assert size.rows == 2_000
    size.took(10, 0.01)
    assert size.rows == 2_000, "a call of few rows says nothing of many"
    size.took(2_000, 1.0)
    assert size.rows == 4_000
    for _ in range(100):
        size.took(4_000, 2.0)
    assert size.rows == 4_000


def test_one_row_that_never_ends_does_not_make_all_calls_small_for_good() -> None:
    size = CallSize()
    rows = 4_096
    while rows:
        size.too_long(rows, 10.0)
        rows //= 2
    for _ in range(12):
        size.took(size.rows, 0.00001 * size.rows)
    assert size.rows == 4_096
