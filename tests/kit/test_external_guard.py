"""The circuit breaker and the retry budget: pure decisions over a clock that the test moves."""

from services.kit.models.external.guard import Breaker, RetryBudget


def failing(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        assert breaker.enter(now)
        breaker.failed(now)


def test_it_opens_at_the_fifth_failure_where_half_of_the_calls_fail() -> None:
    breaker = Breaker()
    failing(breaker, 4)
    assert breaker.state(0) == "closed"
    failing(breaker, 1)
    assert breaker.state(0) == "open"
    assert not breaker.enter(4.9)
    assert breaker.left_s(4) == 1


def test_few_failures_among_many_answers_leave_it_closed() -> None:
    breaker = Breaker()
    for _ in range(50):
        for failed in (False, False, True):
            assert breaker.enter(0)
            breaker.failed(0) if failed else breaker.succeeded()
    assert breaker.state(0) == "closed"


def test_half_open_lets_one_call_through_whose_success_closes_it() -> None:
    breaker = Breaker()
    failing(breaker, 5)
    assert breaker.state(5) == "half-open"
    assert breaker.enter(5)
    assert not breaker.enter(5), "one trial at a time"
    breaker.succeeded()
    assert breaker.state(5) == "closed"
    failing(breaker, 4, now=6)
    assert breaker.state(6) == "closed", "what was before the trial is forgotten"


def test_a_trial_that_fails_opens_it_for_twice_as_long_and_a_minute_at_most() -> None:
    breaker = Breaker()
    failing(breaker, 5)
    now = 0.0
    for pause in (10, 20, 40, 60, 60):
        now += breaker.left_s(now)
        assert breaker.enter(now)
        breaker.failed(now)
        assert breaker.left_s(now) == pause


def test_a_trial_whose_caller_went_away_leaves_the_next_one_to_try() -> None:
    breaker = Breaker()
    failing(breaker, 5)
    assert breaker.enter(5)
    breaker.left()
    assert breaker.enter(5)


def test_repetitions_are_a_fifth_of_the_calls_and_two_to_begin_with() -> None:
    budget = RetryBudget(0.2)
    repeated = 0
    for _ in range(1000):
        budget.called()
        repeated += budget.take()
    assert 200 <= repeated <= 202


def test_what_was_not_repeated_is_kept_up_to_ten_and_none_is_none() -> None:
    budget = RetryBudget(0.2)
    for _ in range(1000):
        budget.called()
    assert sum(budget.take() for _ in range(100)) == 10
    none = RetryBudget(0)
    none.called()
    assert not none.take()
