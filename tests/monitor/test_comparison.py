"""A shadow beside the champion on real Kafka and PostgreSQL: each request is compared once, whatever comes when."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pytest

from contracts import Decided, DeploymentChanged, ModelSchema, OutcomeObserved, Service
from deploy.embedded.standalone import free_home
from services.kit.context import Caller, Context, use
from services.kit.db import Database
from services.kit.errors import NotFound
from services.kit.ids import uuid7
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.kit.signing import canonical, digest_of
from services.kit.testing import eventually
from services.monitor.api.comparison import ComparisonView
from services.monitor.settings import MonitorSettings
from services.monitor.usecases.paired import Comparison, Comparisons

from . import streams
from .killing import victim
from .saying import aligned, buried, deployment, fresh, logged, replay, say_deployment, say_logged
from .telling import outcome, tell
from .test_handlers import running

Speaker = Callable[[Service], Settings]
ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))
ELSEWHERE = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"wealth"})))


def schema() -> ModelSchema:
    """With a segment."""
    plain = streams.schema()
    columns = [c.model_copy(update={"segment": c.name == "colour"}) for c in plain.columns]
    return plain.model_copy(update={"columns": tuple(columns)})


def of_numbers() -> ModelSchema:
    plain = schema()
    price = plain.outputs[0].model_copy(update={"name": plain.prediction, "datatype": "FP64"})
    return plain.model_copy(update={"outputs": (price,), "score": None})


def beside(endpoint: str, model: ModelSchema, baseline: str | None = None) -> DeploymentChanged:
    """Version 1 answers, version 2 is its shadow."""
    event = deployment(endpoint, model, baseline)
    shadow = event.variants[0].model_copy(update={"name": "challenger", "version": 2, "role": "shadow"})
    return event.model_copy(update={"variants": (*event.variants, shadow)})


def copied(real: dict[str, Any], labels: Sequence[float], **more: Any) -> dict[str, Any]:
    """What a shadow's record says of a request that was answered, where it would have decided so."""
    outputs = [dict(output) for output in real["response"]["outputs"]]
    outputs[0]["data"] = list(labels)
    answered = {name: real[name] for name in ("version", "variant", "latency_ms", "response")}
    made = real | {
        "inference_id": str(uuid7()), "version": 2, "variant": "challenger", "latency_ms": 4.0, "seq": real["seq"] + 1,
        "response": real["response"] | {"outputs": outputs}, "shadow_of": real["inference_id"], "answered": answered,
    }  # fmt: skip
    return made | more


def failing(real: dict[str, Any]) -> dict[str, Any]:
    answered = {name: real[name] for name in ("version", "variant", "latency_ms")}
    made = copied(real, [], request={}, response={}, sampled=False, failed="ModelFailed")
    return made | {"answered": answered}


def labels_of(record: dict[str, Any]) -> list[int]:
    return record["response"]["outputs"][0]["data"]


@asynccontextmanager
async def comparing(
    settings: MonitorSettings, speaker: Speaker, event: DeploymentChanged
) -> AsyncIterator[Comparisons]:  # fmt: skip
    await say_deployment(speaker("deployer"), event)
    async with running(settings) as parts:
        assert parts.db
        yield Comparisons(parts.db)


async def looked(comparisons: Comparisons, endpoint: str) -> Comparison | None:
    try:
        with use(ENGINEER):
            _, found = await comparisons.of(endpoint, None, None)
    except NotFound:
        return None
    return next(iter(found), None)


async def once(comparisons: Comparisons, endpoint: str, there: Callable[[Comparison], bool]) -> Comparison:
    async def found() -> Comparison | None:
        each = await looked(comparisons, endpoint)
        return each if each and there(each) else None

    return await eventually(found, within=60)


@pytest.fixture
async def baseline(monitor_settings: MonitorSettings) -> str:
    made = np.random.default_rng(11)
    return await Objects(monitor_settings).put(canonical(streams.profile(made)))


async def test_both_answers_of_a_request_are_compared_once_in_the_window_of_the_request(
    monitor_settings: MonitorSettings, speaker: Speaker, baseline: str
) -> None:
    """Shadows come before what was answered, twice, late; one fails, of one the payload was not kept."""
    endpoint, world = fresh(), streams.World(np.random.default_rng(3))
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    reals = [
        logged(endpoint, world.rows(10), 2 * place, hour - timedelta(hours=3 - place % 2, minutes=-place))
        for place in range(24)
    ]
    flipped = [[1 - labels_of(real)[0], *labels_of(real)[1:]] for real in reals]
    copies = [copied(real, labels) for real, labels in zip(reals, flipped, strict=True)]
    unsampled = copied(reals[22], [], request={}, response={}, sampled=False)
    unsampled["answered"] = {name: reals[22][name] for name in ("version", "variant", "latency_ms")}
    copies[22:] = [unsampled, failing(reals[23])]
    async with comparing(monitor_settings, speaker, beside(endpoint, schema(), baseline)) as comparisons:
        await say_logged(speaker("scorer"), [each | {"writer": f"w-{endpoint}"} for each in copies[:20]])
        await say_logged(speaker("scorer"), reals)
        await say_logged(speaker("scorer"), [each | {"writer": f"w-{endpoint}"} for each in copies[10:] + copies[:5]])

        def whole(each: Comparison) -> bool:
            return each.whole.answers.requests == 23 and each.whole.answered == 240

        found = await once(comparisons, endpoint, lambda each: whole(each) and each.whole.answers.failures == 10)
        with use(ELSEWHERE), pytest.raises(NotFound):
            await comparisons.of(endpoint, None, None)
    answers = found.whole.answers
    assert (answers.rows, answers.equal, answers.unknown, answers.failed) == (220, 198, 10, {"ModelFailed": 10})
    assert [(each.start, each.answers.rows) for each in found.windows] == [
        (hour - timedelta(hours=2), 110), (hour - timedelta(hours=3), 110),
    ]  # fmt: skip
    told = [label for real in reals[:22] for label in labels_of(real)]
    said = [label for labels in flipped[:22] for label in labels]
    pairs = [(str(one), str(other)) for one, other in zip(told, said, strict=True)]
    assert answers.cells == {pair: pairs.count(pair) for pair in set(pairs)}
    colours = answers.groups["colour"]
    assert sum(each.rows for each in colours.values()) == 220 and sum(each.equal for each in colours.values()) == 198
    assert answers.near.rows == 220 and answers.near.difference.mean == 0.0, "the scores are the same"
    assert (answers.told_ms.quantile(0.5), answers.said_ms.quantile(0.5)) == pytest.approx((0.8, 4.0), rel=0.03)
    view = ComparisonView.of(found, 1)
    share = view.overall.answers.statistics[0]
    assert (share.name, share.value, share.rows) == ("agreement", 0.9, 220)
    assert share.interval and 0.8 < share.interval[0] < 0.9 < share.interval[1] < 0.97
    assert len(view.windows) == 1 and view.overall.outcomes.verdict == "undecided"


async def test_an_endpoint_without_a_shadow_and_a_scorer_that_does_not_say_what_was_told_have_no_comparison(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(4)), aligned(60)
    real, last = (logged(endpoint, world.rows(10), 2 * n, start) for n in range(2))
    copy = copied(real, [0] * 10)
    del copy["answered"]
    async with comparing(monitor_settings, speaker, beside(endpoint, schema())) as comparisons:
        await say_logged(speaker("scorer"), [real, copy])
        await say_logged(speaker("scorer"), [copied(last, labels_of(last), writer=f"w-{endpoint}")])
        found = await once(comparisons, endpoint, lambda each: each.whole.answers.requests > 0)
    assert found.whole.answers.requests == 1 and found.whole.answers.equal == 10


async def test_numbers_are_compared_by_their_difference(monitor_settings: MonitorSettings, speaker: Speaker) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(4)), aligned(60)
    real = logged(endpoint, world.rows(200), 0, start)
    told = np.linspace(0, 100, 200)
    real["response"]["outputs"] = [{"name": "label", "datatype": "FP64", "shape": [200], "data": told.tolist()}]
    said = told + np.where(np.arange(200) % 2, 3.0, -1.0)
    async with comparing(monitor_settings, speaker, beside(endpoint, of_numbers())) as comparisons:
        copy = copied(real, said.tolist())
        await say_logged(speaker("scorer"), [copy, copy, real])
        found = await once(comparisons, endpoint, lambda each: each.whole.answers.requests > 0)
    (view,) = [ComparisonView.of(found, 10)]
    figures = {each.name: each for each in view.overall.answers.statistics}
    assert view.task == "regression" and figures["mean difference"].value == pytest.approx(1.0)
    assert figures["mean absolute difference"].value == pytest.approx(2.0)
    assert figures["95th percentile of the absolute difference"].value == pytest.approx(3.0, rel=0.05)
    assert figures["correlation"].value == pytest.approx(np.corrcoef(told, said)[0, 1], abs=1e-9)


async def test_a_shadow_that_could_not_be_read_is_compared_when_it_is_replayed_and_once(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(5)), aligned(60)
    real = logged(endpoint, world.rows(10), 0, start)
    whole = copied(real, labels_of(real))
    request = orjson.dumps(whole["request"])
    kept = {"digest": digest_of(request), "media_type": "application/json", "first_row": 0, "rows": 10}
    async with comparing(monitor_settings, speaker, beside(endpoint, schema())) as comparisons:
        await say_logged(speaker("scorer"), [real, whole | {"request": {"reference": kept}}])
        topic = "inference.logged"

        async def letters() -> Any:
            return await buried(monitor_settings, "monitor", topic, [whole["inference_id"]])

        found = await eventually(letters, within=60)
        assert await looked(comparisons, endpoint) is None
        await Objects(monitor_settings).put(request)
        await replay(monitor_settings, found)
        await replay(monitor_settings, found)
        behind = logged(endpoint, world.rows(1), 10, start)
        await once(comparisons, endpoint, lambda each: each.whole.answers.requests == 1)
        await say_logged(speaker("scorer"), [copied(behind, labels_of(behind), inference_id=whole["inference_id"])])
        both = await once(comparisons, endpoint, lambda each: each.whole.answers.requests > 1)
    assert both.whole.answers.requests == 2 and both.whole.answers.rows == 11


def followed(real: OutcomeObserved, decided: float | str | None, **more: Any) -> OutcomeObserved:
    """The same truth of a shadow's decision."""
    told = Decided(version=1, variant="champion", prediction=real.prediction, score=None)
    given = {
        "inference_id": f"shadow-{real.inference_id}", "version": 2, "variant": "challenger", "prediction": decided,
        "shadow_of": real.inference_id, "answered": told,
    }  # fmt: skip
    return real.model_copy(update=given | more)


async def test_who_was_right_is_counted_by_pair_however_often_and_in_whatever_order_it_is_told(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint = fresh()
    colour = {"colour": 1.0}
    reals = [outcome(endpoint, float(n % 2), float(n % 2 if n >= 80 else 0), segments=colour) for n in range(200)]
    # The first eighty: told 0, so that half is wrong; the shadow is right of sixty of them, and of all others.
    shadows = [followed(real, real.label if n < 60 or n >= 80 else 0.0) for n, real in enumerate(reals)]
    lost = [followed(outcome(endpoint, 1.0, None), 1.0), followed(outcome(endpoint, 1.0, 1.0), None)]
    async with comparing(monitor_settings, speaker, beside(endpoint, schema())) as comparisons:
        await tell(speaker("recorder"), shadows[100:])  # before what is told of the champion's rows
        await tell(speaker("recorder"), [*reals, *shadows[:120], *lost])
        await tell(speaker("recorder"), [*shadows, *reals])

        def all_of_it(each: Comparison) -> bool:
            return each.whole.verdicts.whole.rows == 200 and each.whole.verdicts.unknown == 2

        first = await once(comparisons, endpoint, all_of_it)
        right = first.whole.verdicts.whole
        assert (right.both, right.told, right.said, right.neither) == (160, 0, 30, 10)
        view = ComparisonView.of(first, 10).overall.outcomes
        gained = next(each for each in view.statistics if each.name == "accuracy gained")
        assert gained.value == 0.15 and gained.interval and view.verdict == "better"
        assert [(g.group, g.rows) for g in view.groups] == [("1", 200)]
        # Of those thirty it turns out that what was told was right; then the old word comes once more.
        later = datetime.now(UTC)
        mended = [e.model_copy(update={"label": 0.0, "observed_at": later}) for n, e in enumerate(shadows) if n < 60]
        await tell(speaker("recorder"), [*mended, *shadows])
        second = await once(comparisons, endpoint, lambda each: each.whole.verdicts.whole.told == 30)
        await tell(speaker("recorder"), [e.model_copy(update={"row": 1}) for e in shadows])
        third = await once(comparisons, endpoint, lambda each: each.whole.verdicts.whole.rows == 400)
    right, behind = second.whole.verdicts.whole, third.whole.verdicts.whole
    assert (right.both, right.told, right.said, right.neither) == (160, 30, 0, 10)
    assert (behind.both, behind.told, behind.said, behind.neither) == (320, 30, 30, 20)


async def test_errors_of_numbers_are_compared_by_pair(monitor_settings: MonitorSettings, speaker: Speaker) -> None:
    endpoint, random = fresh(), np.random.default_rng(8)
    truth, noise = random.normal(100, 20, 300), random.normal(0, 5, 300)
    reals = [outcome(endpoint, t, t + e) for t, e in zip(truth.tolist(), noise.tolist(), strict=True)]
    shadows = [followed(real, t + 1.1 * e) for real, t, e in zip(reals, truth.tolist(), noise.tolist(), strict=True)]
    async with comparing(monitor_settings, speaker, beside(endpoint, of_numbers())) as comparisons:
        await tell(speaker("recorder"), [*shadows, *reals])
        found = await once(comparisons, endpoint, lambda each: each.whole.verdicts.whole.rows == 300)
    view = ComparisonView.of(found, 10).overall.outcomes
    saved = next(each for each in view.statistics if each.name == "absolute error saved")
    assert saved.value == pytest.approx(-0.1 * np.abs(noise).mean()) and view.verdict == "worse"


async def test_pairs_are_counted_exactly_however_often_the_monitor_is_killed(
    monitor_settings: MonitorSettings, speaker: Speaker, service_db: Callable[[Service], Database]
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(21)), aligned(120)
    await say_deployment(speaker("deployer"), beside(endpoint, schema()))
    reals = [logged(endpoint, world.rows(5), 2 * n, start) for n in range(900)]
    records = [each for real in reals for each in (copied(real, [1] * 5), real)]
    records.sort(key=lambda record: record["seq"])
    events = [outcome(endpoint, 1.0, float(n % 2)) for n in range(900)]
    truths = [followed(event, 1.0) for event in events]
    comparisons = Comparisons(service_db("monitor"))
    with victim("monitor", monitor_settings, free_home(monitor_settings.home).port) as monitor:
        for cut in range(3):
            await say_logged(speaker("scorer"), records[max(0, cut * 600 - 100) : (cut + 1) * 600])
            await tell(speaker("recorder"), truths[max(0, cut * 300 - 50) : (cut + 1) * 300])
            wanted = 100 + 250 * cut
            await once(comparisons, endpoint, lambda each, least=wanted: each.whole.answers.requests > least)
            monitor.kill()
            monitor.start()

        def whole(each: Comparison) -> bool:
            return each.whole.answers.requests >= 900 and each.whole.verdicts.whole.rows >= 900

        await once(comparisons, endpoint, whole)
        # What repeats could do wrong is done once a last record is counted; and it has begun before it is told to end.
        last = logged(endpoint, world.rows(5), 1_800, start)
        await say_logged(speaker("scorer"), [copied(last, [1] * 5)])
        found = await once(comparisons, endpoint, lambda each: each.whole.answers.requests > 900)
    reals.append(last)
    answers, right = found.whole.answers, found.whole.verdicts.whole
    ones = sum(label for real in reals for label in labels_of(real))
    assert (answers.requests, answers.rows, answers.equal) == (901, 4_505, ones)
    assert (right.both, right.told, right.said, right.neither) == (450, 0, 450, 0)
