"""A model's lane: whatever the model does, every caller gets an answer or a refusal, and the next one is served."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from services.kit.errors import Busy, Refusal, TooLate, Unavailable
from services.kit.sandbox import SandboxAway, SandboxDied
from services.kit.testing import eventually
from services.scorer.lane import Lane, Limits
from services.scorer.runtimes import Arrays
from services.scorer.runtimes.errors import ModelFailed, TookTooLong
from services.scorer.runtimes.onnx import OnnxRuntime
from services.scorer.runtimes.sandboxed import SandboxedRuntime

from .making import NUMBERS, classifier

LIMITS = Limits(inline_ms=0.5, batch_rows=100, queue_requests=100, queue_rows=10_000)


def _waited(gate: threading.Event) -> None:
    gate.wait(10)


@dataclass
class Model:
    """Doubles its input; `act` happens before, in the thread of the call."""

    act: Callable[[np.ndarray], None] = lambda _: None
    calls: list[int] = field(default_factory=list[int])
    closed: int = 0

    def predict(self, inputs: Arrays) -> Arrays:
        self.calls.append(len(inputs["x"]))
        self.act(inputs["x"])
        return {"y": inputs["x"] * 2}

    def stop(self) -> None:
        raise AssertionError("no call of these tests takes so long")

    def resume(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


def one(value: float) -> Arrays:
    return {"x": np.array([value])}


def bad(values: np.ndarray) -> None:
    if (values < 0).any():
        raise ZeroDivisionError("it has the value -1 in its words")


async def ask(lane: Lane, value: float) -> float | Refusal:
    try:
        return float((await lane.run(one(value), 1))["y"][0])
    except Refusal as refusal:
        return refusal


async def test_what_a_model_raises_concerns_its_own_request_alone() -> None:
    lane = Lane(Model(bad), LIMITS, joinable=True)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(ask(lane, value) for value in (1, 2, -1, 3)))
        assert [a for a in answers if not isinstance(a, Refusal)] == [2, 4, 6]
        (refused,) = [a for a in answers if isinstance(a, Refusal)]
        assert isinstance(refused, ModelFailed) and "-1" not in refused.message
        assert await ask(lane, 4) == 8
    assert "ZeroDivisionError" in lane.trouble and not lane.away, "others are answered"


async def test_a_call_on_the_event_loop_fails_no_other_way() -> None:
    lane = Lane(Model(bad), LIMITS, joinable=True)
    await lane.warm(one(1), {"x": np.ones(32)}, 32)
    assert isinstance(await ask(lane, -1), ModelFailed)
    assert await ask(lane, 1) == 2


@pytest.mark.parametrize("warmed", [True, False], ids=["on the event loop", "in the thread"])
async def test_what_a_model_raises_is_logged_without_its_words(warmed: bool) -> None:
    lane = Lane(Model(bad), LIMITS, joinable=True)
    if warmed:
        await lane.warm(one(1), {"x": np.ones(32)}, 32)
    with capture_logs() as logs:
        assert isinstance(await ask(lane, -1), ModelFailed)
    (line,) = logs
    assert line["error"].startswith("ZeroDivisionError at tests/scorer/test_lane.py:")
    assert "exc_info" not in line and "it has the value" not in str(line)


@pytest.mark.parametrize("warmed", [True, False], ids=["on the event loop", "in the thread"])
async def test_a_model_that_leaves_rows_out_is_refused_wherever_it_is_asked(warmed: bool) -> None:
    class Choosy(Model):
        def predict(self, inputs: Arrays) -> Arrays:
            return {"y": inputs["x"][inputs["x"] > 0]}

    lane = Lane(Choosy(), LIMITS, joinable=True)
    if warmed:
        await lane.warm(one(1), {"x": np.ones(32)}, 32)
        assert lane.idle
    with pytest.raises(ModelFailed, match="every row"):
        await lane.run({"x": np.array([1.0, -1.0, 1.0])}, 3)


async def test_a_model_whose_first_opening_failed_sleeps_and_is_opened_again_like_any_other() -> None:
    opened: list[Model] = []

    async def waking(lane: Lane) -> None:
        opened.append(Model())
        if len(opened) == 1:
            raise Unavailable("the disk is full")
        lane.take(opened[-1])
        await lane.warm(one(1), {"x": np.ones(32)}, 32)

    lane = Lane(None, replace(LIMITS, inline_ms=50), joinable=True, waking=waking)
    assert isinstance(await ask(lane, 1), Unavailable)
    for value in (2, 3):
        assert await ask(lane, value) == 2 * value
        assert lane.idle and lane.sleep()
        assert not lane.idle and lane.at_once(one(1), 1) is None
    assert len(opened) == 3


async def test_nobody_gets_another_s_rows_when_a_model_leaves_rows_out() -> None:
    class Short(Model):
        def predict(self, inputs: Arrays) -> Arrays:
            self.calls.append(len(inputs["x"]))
            gate.wait(5)
            return {"y": inputs["x"][:1] * 2}

    gate, model = threading.Event(), Short()
    lane = Lane(model, LIMITS, joinable=True)
    asking = [asyncio.create_task(ask(lane, value)) for value in (1, 2, 3)]
    await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*asking) == [2, 4, 6]
    assert 3 in model.calls or 2 in model.calls
    with pytest.raises(ModelFailed, match="every row"):
        await lane.warm(one(1), {"x": np.ones(32)}, 32)


async def test_a_lane_that_fails_itself_wakes_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(Model(), LIMITS, joinable=True)

    async def broken(_: object) -> None:
        raise RuntimeError("a bug of ours")

    with monkeypatch.context() as patched:
        patched.setattr(lane, "_ask", broken)
        async with asyncio.timeout(10):
            answers = await asyncio.gather(ask(lane, 1), ask(lane, 2))
    assert all(isinstance(answer, ModelFailed) for answer in answers)
    assert await ask(lane, 3) == 6


@dataclass
class Box:
    """A sandboxed model that fails as told, then no more."""

    errors: list[Exception]

    async def predict(self, inputs: Arrays) -> Arrays:
        raise self.errors.pop(0)


@pytest.mark.parametrize(
    ("errors", "refusals"),
    [
        ([SandboxAway("it")], [Unavailable]),
        ([SandboxDied("it"), SandboxAway("it")], [Unavailable]),
        ([SandboxDied("it"), SandboxDied("it")], [ModelFailed]),
        ([SandboxDied("it"), SandboxAway("it"), SandboxDied("it")], [Unavailable, ModelFailed]),
    ],
)  # fmt: skip
async def test_an_input_is_blamed_only_when_it_ends_a_second_process(
    errors: list[Exception], refusals: list[type[Refusal]]
) -> None:
    runtime = SandboxedRuntime(Box(errors), NUMBERS)  # pyright: ignore[reportArgumentType]
    for refusal in refusals:
        with pytest.raises(refusal):
            await runtime.call({"X": np.ones((1, 3), np.float32)})


async def test_another_input_is_not_blamed_for_a_death_that_came_before_it() -> None:
    errors: list[Exception] = [SandboxDied("it"), SandboxAway("it"), SandboxDied("it"), SandboxAway("it")]
    runtime = SandboxedRuntime(Box(errors), NUMBERS)  # pyright: ignore[reportArgumentType]
    for value in (1, 2):
        with pytest.raises(Unavailable):
            await runtime.call({"X": np.full((1, 3), value, np.float32)})


class Elsewhere:
    """Doubles its input when it is let; two calls may be under way."""

    calls, down, away, cpu_s, rss = 2, "", "", 0.0, 0

    def __init__(self, error: Refusal | None = None) -> None:
        self.asked: list[int] = []
        self.let = asyncio.Event()
        self._error = error

    async def call(self, inputs: Arrays, params: bytes = b"") -> Arrays:
        self.asked.append(len(inputs["x"]))
        await self.let.wait()
        if self._error:
            raise self._error
        return {"y": inputs["x"] * 2}

    def close(self) -> None:
        self.asked.append(-1)


async def under_way(remote: Elsewhere, calls: int) -> None:
    while len(remote.asked) < calls:
        await asyncio.sleep(0)


async def test_a_model_elsewhere_is_asked_as_often_at_once_as_it_bears_and_what_waits_is_joined() -> None:
    remote = Elsewhere()
    lane = Lane(remote, LIMITS, joinable=True)
    asked: list[asyncio.Task[float | Refusal]] = []
    for value in (1, 2):
        asked.append(asyncio.create_task(ask(lane, value)))
        await under_way(remote, value)
    asked += [asyncio.create_task(ask(lane, value)) for value in (3, 4, 5)]
    await asyncio.sleep(0)
    assert (remote.asked, lane.waiting) == ([1, 1], 5)
    lane.close()
    remote.let.set()
    assert await asyncio.gather(*asked) == [2, 4, 6, 8, 10]
    assert remote.asked == [1, 1, 3, -1], "closed once, after the last answer"
    assert lane.ended


async def test_everyone_who_was_joined_is_told_that_a_model_is_away() -> None:
    remote = Elsewhere(Unavailable("it is away"))
    lane = Lane(remote, LIMITS, joinable=True)
    asked = [asyncio.create_task(ask(lane, value)) for value in (1, 2, 3)]
    await under_way(remote, 1)
    remote.let.set()
    answers = await asyncio.gather(*asked)
    assert remote.asked == [3]
    assert all(isinstance(answer, Unavailable) for answer in answers), answers
    assert not lane.trouble


@dataclass
class Slow(Model):
    """As slow as it is told to be."""

    pause_s: float = 0.0
    at_once: list[bool] = field(default_factory=list[bool])
    """Whether each call was made on the event loop."""

    def predict(self, inputs: Arrays) -> Arrays:
        self.at_once.append(threading.current_thread() is threading.main_thread())
        time.sleep(self.pause_s)
        return super().predict(inputs)


async def test_a_model_that_was_slow_for_a_while_is_asked_on_the_event_loop_again() -> None:
    model = Slow()
    lane = Lane(model, replace(LIMITS, inline_ms=50), joinable=True)
    await lane.warm(one(1), {"x": np.ones(32)}, 32)
    assert lane.idle
    model.pause_s = 0.21
    for _ in range(8):
        await ask(lane, 1)
    assert (lane.idle, lane.lowered) == (False, 1)
    model.at_once.clear()
    await ask(lane, 1)
    assert (model.at_once, lane.idle) == ([False], False)
    model.pause_s = 0.0
    for _ in range(100):
        await ask(lane, 1)
    assert lane.idle and model.at_once[-1], "what its calls in the thread showed"
    assert lane.lowered == 1


async def test_a_model_that_hangs_once_it_is_warm_is_stopped_at_its_deadline() -> None:
    stopped = threading.Event()

    class Hanging(Model):
        def predict(self, inputs: Arrays) -> Arrays:
            if len(self.calls) == 2:
                _waited(stopped)
                raise TookTooLong("the model took too long over this input")
            return super().predict(inputs)

        def stop(self) -> None:
            stopped.set()

    lane = Lane(Hanging(), replace(LIMITS, deadline_s=0.1), joinable=True)
    with pytest.raises(TookTooLong):
        await lane.warm(one(1), {"x": np.ones(32)}, 32)


async def test_who_is_late_or_gone_is_never_computed_and_leaves_its_place_to_others() -> None:
    gate, model = threading.Event(), Model()
    model.act = lambda _: _waited(gate)
    lane = Lane(model, replace(LIMITS, queue_requests=2, batch_rows=1), joinable=True)
    first = asyncio.create_task(ask(lane, 1))
    await eventually(lambda: model.calls)
    with pytest.raises(TooLate):
        await lane.run(one(2), 1, 0.01)
    with pytest.raises(TooLate):
        await lane.run(one(2), 1, 0)
    gone = asyncio.create_task(ask(lane, 2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert lane.waiting == 1
    others = [asyncio.create_task(ask(lane, value)) for value in (3, 4)]
    await asyncio.sleep(0)
    assert isinstance(await ask(lane, 5), Busy), "the line is as long as it may be, without them"
    gate.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(first, *others) == [2, 6, 8]
    assert model.calls == [1, 1, 1]


@dataclass
class Bearing:
    """A model elsewhere that doubles `most` rows at once; each call waits for the gate."""

    most: int
    asked: list[int] = field(default_factory=list[int])
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 1
    down: str = ""
    away: str = ""
    cpu_s: float = 0.0
    rss: int = 0

    async def call(self, inputs: Arrays, params: bytes = b"") -> Arrays:
        self.asked.append(len(inputs["x"]))
        await self.gate.wait()
        if len(inputs["x"]) > self.most:
            raise TookTooLong("the model took too long over this input")
        return {"y": inputs["x"] * 2}

    def close(self) -> None: ...


async def test_who_left_while_they_were_asked_together_is_not_asked_alone() -> None:
    model = Bearing(most=0)
    lane = Lane(model, LIMITS, joinable=True)
    asked = [asyncio.create_task(ask(lane, value)) for value in range(50)]
    await eventually(lambda: model.asked)
    for one_of_them in asked:
        one_of_them.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    model.gate.set()
    lane.close()
    await eventually(lambda: lane.ended)
    assert model.asked == [50]


async def test_who_left_while_another_was_asked_alone_is_not_asked() -> None:
    class Refusing(Bearing):
        async def call(self, inputs: Arrays, params: bytes = b"") -> Arrays:
            await super().call(inputs)
            if len(self.asked) == 2:
                for one_of_them in asked[1:]:
                    one_of_them.cancel()
            raise ModelFailed("the model does not take this input")

    model = Refusing(most=100)
    lane = Lane(model, LIMITS, joinable=True)
    asked = [asyncio.create_task(ask(lane, value)) for value in range(50)]
    model.gate.set()
    await asyncio.gather(*asked, return_exceptions=True)
    lane.close()
    await eventually(lambda: lane.ended)
    assert model.asked == [50, 1]


async def test_what_took_too_long_together_is_asked_in_smaller_calls_and_not_one_by_one() -> None:
    model = Bearing(most=15)
    lane = Lane(model, LIMITS, joinable=True)
    model.gate.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*(ask(lane, value) for value in range(90))) == [2 * value for value in range(90)]
    assert len(model.asked) < 20, model.asked
    assert lane.waiting == 0


async def test_one_that_is_stopped_after_its_answer_costs_the_next_one_nothing() -> None:
    loop = asyncio.get_running_loop()

    class Late(OnnxRuntime):
        def predict(self, inputs: Arrays) -> Arrays:
            outputs = super().predict(inputs)
            loop.call_soon_threadsafe(self.stop)  # before this answer is heard
            return outputs

    lane = Lane(Late(classifier(), NUMBERS), LIMITS, joinable=True)
    for _ in range(3):
        assert (await lane.run({"X": np.ones((1, 3), np.float32)}, 1))["label"].tolist() == [1]


async def test_however_soon_a_call_was_ended_it_had_its_deadline() -> None:
    model = Bearing(most=1)
    lane = Lane(model, replace(LIMITS, deadline_s=1000), joinable=True)
    model.gate.set()
    with pytest.raises(TookTooLong):
        await lane.run({"x": np.ones(2)}, 2)
    assert lane.call_rows == 1
    assert await ask(lane, 1) == 2
    assert lane.call_rows == 2, "a row took less than an eighth of the deadline"
