"""Why a model fails is in the log for its owner, once a minute for each reason, and never with the data."""

from structlog.testing import capture_logs

from services.kit.errors import Busy
from services.scorer.failures import Failures
from services.scorer.runtimes.errors import ModelFailed

SAID = {"endpoint": "loans", "model": "credit", "version": 3}


def test_each_reason_is_told_at_once_and_then_once_a_minute_with_how_often() -> None:
    now = [0.0]
    failures = Failures(SAID, lambda: now[0])
    one, other = ModelFailed("the model failed", "KeyError at model.py:4 in predict"), ModelFailed("it holds 4711")
    with capture_logs() as logs:
        for second in range(61):
            now[0] = float(second)
            assert failures.noted(one) is one
            failures.noted(other)
    said = [(line["error"], line["times"]) for line in logs]
    unfit = "it answered otherwise than its schema says"
    assert said == [(one.place, 1), (unfit, 1), (one.place, 60), (unfit, 60)]
    assert all(SAID.items() <= line.items() for line in logs) and "4711" not in str(logs)


def test_what_is_not_the_model_s_doing_is_not_told_and_reasons_have_a_bound() -> None:
    failures = Failures(SAID)
    with capture_logs() as logs:
        failures.noted(Busy("too many requests wait"))
        for number in range(200):
            failures.noted(ModelFailed("it failed", f"E{number} at model.py:1 in predict"))
    assert len(logs) == 51 and logs[-1]["error"] == "another reason"
