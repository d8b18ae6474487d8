"""The circuit breaker and the retry budget: pure decisions over a clock that the test moves."""

from services.kit.models.external.guard import Breaker, RetryBudget


def passing(breaker: Breaker, now: float = 0.0) -> int:
    call = breaker.enter(now)
    assert call is not None
    return call


def failing(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        breaker.failed(passing(breaker, now), now)


def test_it_opens_at_the_fifth_failure_where_half_of_the_calls_fail() -> None:
    breaker = Breaker()
    failing(breaker, 4)
    assert breaker.state(0) == "closed"
    failing(breaker, 1)
    assert breaker.state(0) == "open"
    assert breaker.enter(4.9) is None
    assert breaker.left_s(4) == 1


def test_few_failures_among_many_answers_leave_it_closed() -> None:
    breaker = Breaker()
    for _ in range(50):
        for failed in (False, False, True):
            call = passing(breaker)
            breaker.failed(call, 0) if failed else breaker.succeeded(call)
    assert breaker.state(0) == "closed"


def test_half_open_lets_one_call_through_whose_success_closes_it() -> None:
    breaker = Breaker()
    failing(breaker, 5)
    assert breaker.state(5) == "half-open"
    trial = passing(breaker, 5)
    assert breaker.enter(5) is None, "one trial at a time"
    breaker.succeeded(trial)
    assert breaker.state(5) == "closed"
    failing(breaker, 4, now=6)
    assert breaker.state(6) == "closed", "what was before the trial is forgotten"


def test_a_trial_that_fails_opens_it_for_twice_as_long_and_a_minute_at_most() -> None:
    breaker = Breaker()
    failing(breaker, 5)
    now = 0.0
    for pause in (10, 20, 40, 60, 60):
        now += breaker.left_s(now)
        breaker.failed(passing(breaker, now), now)
        assert breaker.left_s(now) == pause


def test_a_trial_whose_caller_went_away_leaves_the_next_one_to_try() -> None:
    breaker = Breaker()
    failing(breaker, 5)
    breaker.left(passing(breaker, 5))
    assert breaker.enter(5) is not None


def test_a_success_from_before_the_opening_does_not_close_it() -> None:
    breaker = Breaker()
    before = passing(breaker)
    failing(breaker, 5)
    breaker.succeeded(before)
    assert breaker.state(1) == "open"


def test_a_failure_from_before_the_opening_makes_it_no_longer() -> None:
    breaker = Breaker()
    before = passing(breaker)
    failing(breaker, 5)
    breaker.failed(before, 4)
    assert breaker.left_s(4) == 1


def test_how_an_older_call_ends_is_nothing_to_a_trial() -> None:
    breaker = Breaker()
    before = [passing(breaker) for _ in range(3)]
    failing(breaker, 5)
    trial = passing(breaker, 5)
    breaker.left(before[0])
    breaker.failed(before[1], 5)
    breaker.succeeded(before[2])
    assert breaker.enter(5) is None, "one trial at a time"
    breaker.succeeded(trial)
    failing(breaker, 4, now=6)
    assert breaker.state(6) == "closed", "what was before the trial is forgotten"


def test_a_trial_that_was_given_up_ends_no_other() -> None:
    breaker = Breaker()
    failing(breaker, 5)
    first = passing(breaker, 5)
    breaker.left(first)
    passing(breaker, 5)
    breaker.left(first)
    assert breaker.enter(5) is None


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
