"""What fails again and again is tried less and less often, and is forgotten when it does not fail any more."""

from services.governor.usecases.aside import Aside


def test_what_fails_lies_aside_longer_each_time_until_it_is_done() -> None:
    at = [0.0]
    aside = Aside(lambda: at[0])
    for pause in (5, 10, 20, 40, 80, 160, 300, 300):
        aside.begin("a")
        aside.failed("a", "why")
        at[0] += pause - 1
        assert (aside.keys(), aside.reasons()) == (["a"], ["why"])
        at[0] += 1
        assert aside.keys() == []
    aside.begin("a")
    aside.done("a")
    assert (len(aside), aside.keys(), aside.reasons()) == (0, [], [])


def test_what_somebody_else_did_meanwhile_is_forgotten() -> None:
    at = [0.0]
    aside = Aside(lambda: at[0])
    aside.begin("a")
    aside.failed("a", "why")
    at[0] = 64
    assert aside.reasons() == ["why"]
    at[0] = 66
    assert (aside.reasons(), len(aside)) == ([], 0)
