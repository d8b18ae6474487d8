"""What waits to be explained: its bounds, and whose turn it is."""

from datetime import UTC, datetime, timedelta

from contracts import AttributionsRequested, Window
from services.scorer.explanations.waiting import Bounds, Waiting

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def asked(endpoint: str, rows: int = 1) -> AttributionsRequested:
    """Of two columns."""
    window = Window(**{"from": AT, "to": AT + timedelta(seconds=10)}, rows=rows)
    return AttributionsRequested(
        endpoint=endpoint, model="credit", version=1, window=window, explaining="any", rows=((1.0, 2.0),) * rows,
        reference=False,
    )  # fmt: skip


def left(waiting: Waiting) -> list[tuple[str, int]]:
    return [(taken[0].endpoint, len(taken[0].rows)) for taken in iter(waiting.take, None)]


def test_endpoints_take_turns() -> None:
    waiting = Waiting()
    for endpoint, rows in (("busy", 1), ("busy", 2), ("busy", 3), ("calm", 4)):
        assert waiting.put(asked(endpoint, rows), "retail") == []
    assert left(waiting) == [("busy", 1), ("calm", 4), ("busy", 2), ("busy", 3)]
    assert waiting.take() is None


def test_of_an_endpoint_the_older_windows_go_first_by_number_and_by_cells() -> None:
    waiting = Waiting(Bounds(3, 20), Bounds(100, 100))
    dropped = [len(each.rows) for rows in (1, 2, 3, 4, 5) for each in waiting.put(asked("busy", rows), "retail")]
    assert dropped == [1, 2, 3], "four windows; then 24 cells"
    assert waiting.put(asked("calm"), "retail") == []
    assert left(waiting) == [("busy", 4), ("calm", 1), ("busy", 5)]


def test_what_waits_of_all_is_bounded_in_cells_and_what_was_taken_counts_no_more() -> None:
    waiting = Waiting(Bounds(30, 20), Bounds(1_000, 40))
    assert waiting.put(asked("one", 10), "retail") == waiting.put(asked("two", 10), "retail") == []
    assert [each.endpoint for each in waiting.put(asked("three"), "retail")] == ["three"]
    assert [len(each.rows) for each in waiting.put(asked("two", 3), "retail")] == [10], "its own, not another's"
    assert waiting.put(asked("three", 7), "retail") == []
    assert left(waiting) == [("one", 10), ("two", 3), ("three", 7)]
    assert waiting.put(asked("four", 10), "retail") == []


def test_windows_of_all_are_bounded_too() -> None:
    waiting = Waiting(Bounds(2, 100), Bounds(3, 1_000))
    dropped = [each.endpoint for name in "abcd" for each in waiting.put(asked(name), "retail")]
    assert dropped == ["d"] and [name for name, _ in left(waiting)] == ["a", "b", "c"]
