"""Outcomes on real Kafka and PostgreSQL: however often and in whatever order they are told, they count once."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from contracts import ModelSchema, OutcomeObserved, Service, ValueMatrix
from contracts import MonitorSettings as Watching
from services.kit.context import Caller, Context, use
from services.kit.errors import NotFound
from services.kit.objects import Objects
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.signing import canonical
from services.kit.testing import eventually
from services.monitor.api.performance import PerformanceView
from services.monitor.settings import MonitorSettings
from services.monitor.usecases.outcomes import Outcomes, Performance
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import buried, deployment, fresh, logged, say_deployment, say_logged
from .telling import outcome, tell
from .test_handlers import drifts, running

Speaker = Callable[[Service], Settings]
ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))
ELSEWHERE = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"wealth"})))


def schema() -> ModelSchema:
    """With a protected attribute."""
    plain = streams.schema()
    columns = [c.model_copy(update={"protected": c.name == "colour"}) for c in plain.columns]
    return plain.model_copy(update={"columns": tuple(columns)})


def figure(found: Performance, name: str, of: str | None = None) -> Any:
    (overall,) = found.overall
    return next(s for s in overall.statistics if (s.name, s.of) == (name, of))


def labelled(endpoint: str, random: np.random.Generator, count: int, **more: Any) -> list[OutcomeObserved]:
    """Decisions that are right in three of four rows."""
    made: list[OutcomeObserved] = []
    for _ in range(count):
        label = int(random.random() < 0.4)
        prediction = label if random.random() < 0.75 else 1 - label
        score = 0.8 if prediction else 0.3
        segments = {"colour": float(random.integers(0, 2))}
        made.append(outcome(endpoint, float(label), float(prediction), score=score, segments=segments, **more))
    return made


@asynccontextmanager
async def watching(
    settings: MonitorSettings, speaker: Speaker, endpoint: str, model: ModelSchema | None = None, **more: Any
) -> AsyncIterator[Outcomes]:
    await say_deployment(speaker("deployer"), deployment(endpoint, model or schema(), None, **more))
    async with running(settings) as parts:
        assert parts.db
        yield Outcomes(parts.db, Versions(parts.db, Objects(settings)))


async def looked(outcomes: Outcomes, endpoint: str, **more: Any) -> Performance | None:
    try:
        with use(ENGINEER):
            return await outcomes.performance(endpoint, None, None, more.get("segment"), 100)
    except NotFound:
        return None


async def after(outcomes: Outcomes, endpoint: str, rows: int, **more: Any) -> Performance:
    async def there() -> Performance | None:
        found = await looked(outcomes, endpoint, **more)
        return found if found and sum(each.outcomes for each in found.overall) == rows else None

    return await eventually(there, within=40)


async def test_outcomes_count_once_and_a_revised_one_replaces_the_earlier(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint, random = fresh(), np.random.default_rng(1)
    events = labelled(endpoint, random, 400, received_at=datetime.now(UTC) - timedelta(days=9))
    right = sum(event.label == event.prediction for event in events)
    async with watching(monitor_settings, speaker, endpoint) as outcomes:
        await tell(speaker("recorder"), events[:300])
        await tell(speaker("recorder"), events)  # the recorder was killed between saying and noting
        first = await after(outcomes, endpoint, 400, segment="colour")
        assert figure(first, "accuracy").value == right / 400
        (overall,) = first.overall
        assert list(overall.groups) == ["0", "1"]
        assert sum(count for count, _ in overall.groups.values()) == 400
        # All of what was wrong turns out to be right; then, from behind, the old word comes once more.
        mended = [
            e.model_copy(update={"label": e.prediction, "observed_at": datetime.now(UTC)})
            for e in events
            if e.label != e.prediction
        ]
        # Rows that lie behind the old word in each partition tell when it was heard.
        behind = [e.model_copy(update={"row": 1, "label": e.prediction}) for e in events]
        await tell(speaker("recorder"), [*mended, *events, *behind])
        accuracy = figure(await after(outcomes, endpoint, 800), "accuracy")
        assert accuracy.value == 1.0 and accuracy.rows == 800 and accuracy.interval[0] > 0.97
        with use(ELSEWHERE), pytest.raises(NotFound):
            await outcomes.performance(endpoint, None, None, None, 1)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
async def test_decisions_that_are_not_known_are_counted_as_such_and_are_not_wrong(
    monitor_settings: MonitorSettings, speaker: Speaker, kind: str
) -> None:
    endpoint, kpis = fresh(), {"told": "value", "yes": "prediction == 1.0 ? 1 : 0"}
    said: dict[str, Any] = {"expected_error": 0.1} if kind == "classes" else {}
    plain = schema() if kind == "classes" else _of_numbers()
    watched = Watching(window_s=10.0, budget_rows=1_000, kpis=kpis, **said)
    async with watching(monitor_settings, speaker, endpoint, plain, monitor=watched) as outcomes:
        await tell(speaker("recorder"), [outcome(endpoint, 1.0, 1.0, value=2.0) for _ in range(100)])
        await after(outcomes, endpoint, 100)
        await tell(speaker("recorder"), [outcome(endpoint, 1.0, None, value=4.0) for _ in range(300)])
        found = await after(outcomes, endpoint, 400)
    (view,) = PerformanceView.of(found).overall
    assert (view.window.rows, view.labelled, view.undecided) == (400, 100, 300)
    name = "accuracy" if kind == "classes" else "mae"
    assert (figure(found, name).value, figure(found, name).rows) == (float(kind == "classes"), 100)
    assert figure(found, "reported value").rows == 400 and figure(found, "kpi", "told").rows == 400
    yes = figure(found, "kpi", "yes")
    assert (yes.value, yes.rows, yes.why) == (1.0, 100, "no number for 300 more rows")
    assert not found.findings


def _of_numbers() -> ModelSchema:
    plain = schema()
    price = plain.outputs[0].model_copy(update={"name": plain.prediction, "datatype": "FP64"})
    return plain.model_copy(update={"outputs": (price,), "score": None})


async def test_windows_are_those_of_the_decisions_and_say_how_many_were_labelled(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint, world = fresh(), streams.World(np.random.default_rng(2))
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    records: list[dict[str, Any]] = []
    for back in (3, 2):
        rows = world.rows(50)
        for place in range(5):
            at = hour - timedelta(hours=back) + timedelta(minutes=place)
            records.append(logged(endpoint, rows[place * 10 : place * 10 + 10], len(records), at))
    async with watching(monitor_settings, speaker, endpoint) as outcomes:
        await say_logged(speaker("scorer"), records)
        events = [
            outcome(endpoint, 1.0, 1.0, inference_id=r["inference_id"], row=row, received_at=r["received_at"])
            for r in records
            for row in (0, 1)
        ]
        await tell(speaker("recorder"), events)

        async def covered() -> Performance | None:
            found = await looked(outcomes, endpoint)
            told = [(w.start, w.decided, w.labelled) for w in found.windows] if found else []
            return found if told == [(hour - timedelta(hours=b), 50, 10) for b in (2, 3)] else None

        found = await eventually(covered, within=40)
        # It was a shadow before; closed windows do not hold what that would have decided.
        late = [
            each.model_copy(update={"inference_id": f"shadow-{each.inference_id}", "variant": "challenger",
                                    "shadow_of": each.inference_id, "received_at": each.received_at + move})
            for each, move in zip(events, [timedelta(hours=-1)] * 10 + [timedelta()] * 10, strict=True)
        ]  # fmt: skip
        await tell(speaker("recorder"), late)
        both = await after(outcomes, endpoint, 40)
    assert found.overall[0].decided == 100 and found.overall[0].labelled == 20
    assert {(w.variant, w.start): w.decided for w in both.windows} == {
        ("challenger", hour - timedelta(hours=4)): None, ("champion", hour - timedelta(hours=3)): 50,
        ("challenger", hour - timedelta(hours=2)): None, ("champion", hour - timedelta(hours=2)): None,
    }  # fmt: skip
    assert [(each.variant, each.decided) for each in both.overall] == [("challenger", None), ("champion", None)]


async def test_what_is_expected_of_decisions_stands_beside_what_their_labels_show(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    """Decisions of two hours, labels of the earlier one alone; the log was said twice, a label was revised."""
    endpoint, world = fresh(), streams.World(np.random.default_rng(6))
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    records = [
        logged(endpoint, world.rows(50), back * 10 + place, hour - timedelta(hours=back) + timedelta(minutes=place))
        for back in (3, 2)
        for place in range(4)
    ]
    records.sort(key=lambda record: record["seq"])
    digest = await Objects(monitor_settings).put(canonical(streams.profile(np.random.default_rng(11))))
    await say_deployment(speaker("deployer"), deployment(endpoint, schema(), digest))
    async with running(monitor_settings) as parts:
        assert parts.db
        outcomes = Outcomes(parts.db, Versions(parts.db, Objects(monitor_settings)))
        for _ in range(2):
            await say_logged(speaker("scorer"), records)

        async def expected() -> Performance | None:
            found = await looked(outcomes, endpoint)
            rows = [w.estimated.rows if w.estimated else 0 for w in found.windows] if found else []
            return found if rows == [200, 200] else None

        before = await eventually(expected, within=60)
        assert [(w.labelled, w.start) for w in before.windows] == [(0, hour - timedelta(hours=b)) for b in (2, 3)]
        early = before.windows[1].estimated
        assert early and not early.calibrated and early.learned == 0
        said = [label for r in records if r["seq"] >= 30 for label in r["response"]["outputs"][0]["data"]]
        word = sum(0.8 if label else 0.9 for label in said) / 200
        assert next(s for s in early.statistics if s.name == "accuracy").value == pytest.approx(word, abs=4e-3)
        events = [
            outcome(
                endpoint, float(row % 2), float(label), score=0.8 if label else 0.1, row=row,
                received_at=r["received_at"], inference_id=r["inference_id"],
            )
            for r in records if r["seq"] >= 30
            for row, label in enumerate(r["response"]["outputs"][0]["data"])
        ]  # fmt: skip
        revised = [e.model_copy(update={"label": 1.0, "observed_at": datetime.now(UTC)}) for e in events]
        await tell(speaker("recorder"), [*events, *events, *revised])
        found = await after(outcomes, endpoint, 200)
    (whole,) = found.overall
    assert whole.estimated and whole.estimated.calibrated
    assert (whole.estimated.rows, whole.estimated.learned) == (400, 200), "each label teaches once"
    for window in found.windows:
        assert window.estimated and window.estimated.learned == 200
    truth = sum(said) / 200  # all turned out to be 1, whatever the score said
    now = next(s for s in whole.estimated.statistics if s.name == "accuracy")
    assert now.interval and now.interval[0] <= truth <= now.interval[1]
    assert abs((now.value or 0.0) - truth) < 0.1 < abs(word - truth)
    view = PerformanceView.of(found).model_dump(mode="json")
    told = view["windows"][0]["estimated"]
    assert told["covers"] == "chance of the rows and calibration"
    assert {s["name"] for s in told["statistics"]} >= {"accuracy", "precision", "recall", "f1", "roc auc", "brier"}


async def test_what_is_no_outcome_is_a_dead_letter_and_stops_nobody(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint = fresh()
    good = outcome(endpoint, 1.0, 1.0)
    topic = OutcomeObserved.topic.name
    async with watching(monitor_settings, speaker, endpoint) as outcomes:
        async with Producer(speaker("recorder")) as producer:
            await producer.send_all([(topic, good.key.encode(), b"{}", []), (topic, good.key.encode(), b"no", [])])
        old = outcome(endpoint, 1.0, 1.0, received_at=datetime.now(UTC) - timedelta(days=100))
        await tell(speaker("recorder"), [old, good])
        await after(outcomes, endpoint, 1)
        letters = await buried(monitor_settings, "monitor", topic, [good.inference_id])
    assert len(letters) == 2


async def test_a_model_that_became_worse_is_told_once_and_is_worth_less(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint, random = fresh(), np.random.default_rng(4)
    matrix = ValueMatrix(true_positive=10.0, false_positive=-4.0)
    watched = Watching(window_s=10.0, budget_rows=10_000, value_matrix=matrix, kpis={"sure": "score > 0.5 ? 1 : 0"})
    truths = random.integers(0, 2, 3_000)
    wrong = random.random(3_000) < np.repeat([0.1, 0.5], 1_500)
    events = [
        outcome(endpoint, float(truth), float(truth ^ false), score=0.9 if truth else 0.2)
        for truth, false in zip(truths.tolist(), wrong.tolist(), strict=True)
    ]
    async with watching(monitor_settings, speaker, endpoint, monitor=watched) as outcomes:
        await tell(speaker("recorder"), events[:1_500])
        await after(outcomes, endpoint, 1_500)
        await tell(speaker("recorder"), events[1_500:])
        found = await after(outcomes, endpoint, 3_000)
        (drift,) = await eventually(lambda: drifts(monitor_settings, endpoint), within=30)
        again = await after(outcomes, endpoint, 3_000)
    assert drift.performance and drift.performance.metric == "error rate"
    low, high = drift.performance.interval
    # Which partition's labels come first is chance, but what waits together is seen in the order of decisions.
    assert drift.performance.before < 0.12 and low < drift.performance.now < high and low < 0.5 < high
    rise = drift.performance.now - drift.performance.before
    assert drift.performance.cost_per_1000 == pytest.approx(1_000 * 7 * rise, rel=0.15)
    assert drift.features[0].name == "error rate" and drift.detector == "loss e-detector"
    assert [finding.kind for finding in again.findings] == ["alarm"]
    hits = sum(e.prediction == e.label == 1.0 for e in events)
    misfires = sum(e.prediction == 1.0 and e.label == 0.0 for e in events)
    assert figure(found, "value").value == pytest.approx((10 * hits - 4 * misfires) / 3_000)
    assert figure(found, "kpi", "sure").value == pytest.approx(truths.mean())


async def test_late_labels_of_what_a_version_decided_as_a_shadow_say_nothing_of_the_champion(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    """They are figures of their own variant; the test of whether the champion became worse sees none of them."""
    endpoint = fresh()
    watched = Watching(window_s=10.0, budget_rows=10_000, expected_error=0.2)
    answered = [outcome(endpoint, 1.0, float(each % 20 > 0)) for each in range(400)]
    earlier = datetime.now(UTC) - timedelta(days=3)
    shadows = [
        outcome(endpoint, 1.0, 0.0, variant="challenger", shadow_of=each.inference_id, received_at=earlier)
        for each in answered
    ]
    async with watching(monitor_settings, speaker, endpoint, monitor=watched) as outcomes:
        await tell(speaker("recorder"), [*answered, *shadows])
        await after(outcomes, endpoint, 800)

        async def judged() -> Performance | None:
            with use(ENGINEER):
                async with outcomes._db.reading() as session:
                    left = "SELECT count(*) FROM loss_part WHERE endpoint = :e"
                    waiting = await session.scalar(text(left), {"e": endpoint})
            return None if waiting else await looked(outcomes, endpoint)

        found = await eventually(judged, within=30)
    told = {each.variant: next(s.value for s in each.statistics if s.name == "accuracy") for each in found.overall}
    assert told == {"challenger": 0.0, "champion": 0.95}
    assert found.statistic < 3 and not found.findings, "none of 400 wrong decisions"
