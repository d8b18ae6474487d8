"""What decisions rest on, from the log to the alarm: real Kafka and PostgreSQL, a real package in a real sandbox."""

import io
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import RandomForestRegressor

from contracts import (
    AttributionsRequested,
    Column,
    DriftDetected,
    Explaining,
    ModelSchema,
    MonitorSettings,
    Service,
    TensorSpec,
    Window,
)
from services.catalog.domain import Candidate
from services.kit.burial import Burial
from services.kit.bus import Bus
from services.kit.context import Caller, Context, use
from services.kit.db import Database
from services.kit.errors import NotFound
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.outbox import Relay
from services.kit.service import close
from services.kit.settings import Settings
from services.kit.testing import eventually
from services.kit.testing import running as beside
from services.monitor.app import build
from services.monitor.settings import MonitorSettings as Monitor
from services.monitor.usecases.influences import Influences, Telling
from services.monitor.usecases.reading import Reading
from services.scorer.explanations import attributions
from services.scorer.explanations.coding import Coding
from services.scorer.explanations.gateway import Records, Version
from services.scorer.explanations.kept import Opened
from services.scorer.explanations.opening import asking
from services.scorer.explanations.watching import Watching
from services.scorer.settings import ScorerSettings
from tests import code_models
from tests.catalog import models as catalog_models
from tests.monitor.saying import aligned, deployment, fresh, logged, say_deployment, say_logged

from .test_usecases import all_ended, registered, three_classes

pytestmark = pytest.mark.timeout(240)
ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))
AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
COLUMNS = [{"name": "gate"}, {"name": "one"}, {"name": "other"}]


class Shelf(Records):
    """The version that the catalog would tell of."""

    def __init__(self, made: Candidate) -> None:
        self.made = made

    async def version(self, model: str, version: int) -> Version:
        return Version(self.made.digest, self.made.manifest.format, self.made.model_schema)


def inputs(random: np.random.Generator, rows: int, *, paired: bool = False) -> np.ndarray:
    """Either column of numbers decides, as the gate says. `paired`: where the gate is open both are large, else small:
    each column by itself is what it always was, and so is what follows from them."""
    gate = random.integers(0, 2, rows)
    numbers = random.normal(size=(2, 4 * rows))
    if not paired:
        return np.column_stack([gate, numbers[0, :rows], numbers[1, :rows]])
    large = np.abs(numbers) > 0.6745
    picked = [
        np.where(gate == 1, each[big][:rows], each[~big][:rows]) for each, big in zip(numbers, large, strict=True)
    ]
    return np.column_stack([gate, *picked])


def decided(x: np.ndarray) -> np.ndarray:
    return np.where(x[:, 0] == 1, x[:, 1], x[:, 2])


def gated() -> tuple[RandomForestRegressor, bytes]:
    """A forest that learned the gate, and its package with its training rows."""
    x = inputs(np.random.default_rng(1), 3_000).astype(np.float32)
    model = RandomForestRegressor(12, max_depth=7, min_samples_leaf=10, random_state=0).fit(x, decided(x))
    out = io.BytesIO()
    names = [column["name"] for column in COLUMNS]
    pq.write_table(pa.table(dict(zip([*names, "y"], [*x.T.astype(float), decided(x)], strict=True))), out)
    return model, catalog_models.package(
        catalog_models.skops_bytes(model), files={"t.parquet": out.getvalue()}, format_="sklearn", training="t.parquet",
        label="y", columns=COLUMNS,
    )  # fmt: skip


@asynccontextmanager
async def platform(
    home: Path, service_url: Callable[[Service], str], made: Candidate, monitor: Monitor
) -> AsyncIterator[Database]:
    """Monitor and the scorer's part of it, with the outbox of each."""
    scorer = ScorerSettings(
        home=home, kafka_properties=home / "secrets" / "kafka" / "scorer.properties", attribution_cpu=1.0,
        service_database=service_url("scorer"),
    )  # fmt: skip
    parts, db, progress = build(monitor), Database(service_url("scorer"), "scorer"), Progress()
    assert parts.db
    burial = Burial(scorer, "scorer")
    watching = Watching(scorer, db, Objects(scorer), Shelf(made), burial, progress)
    jobs = [job() for job in parts.jobs]
    bus = Bus(monitor, "monitor", parts.db, parts.subscriptions, parts.progress)
    relays = Relay(monitor, parts.db, parts.progress).run(), Relay(scorer, db, progress).run()
    try:
        async with beside(*jobs, bus.run(), *relays, watching.run()):
            yield parts.db
    finally:
        await close(parts)
        await burial.close()
        await db.close()
        await all_ended()


def record(endpoint: str, made: Candidate, x: np.ndarray, said: float, seq: int, at: datetime) -> dict[str, Any]:
    schema = made.model_schema
    given = {"name": schema.inputs[0].name, "datatype": "FP32", "shape": [1, 3], "data": x.tolist()}
    answer = {"name": schema.prediction, "datatype": schema.outputs[0].datatype, "shape": [1], "data": [said]}
    response = {"model_name": endpoint, "model_version": "1", "outputs": [answer]}
    plain = logged(endpoint, np.zeros((1, 6)), seq, at)
    return plain | {"request": {"inputs": [given]}, "response": response}


async def told(db: Database, endpoint: str) -> Influences:
    with use(ENGINEER):
        return await Telling(db).told(endpoint, 100)


@pytest.mark.parametrize("changes", [True, False], ids=["another influence", "no change"])
async def test_decisions_that_rest_on_other_columns_are_told_though_each_column_is_as_before(
    kafka: Path, home: Path, service_url: Callable[[Service], str], tmp_path: Path, *, changes: bool
) -> None:
    model, package = gated()
    (upload := tmp_path / "upload").write_bytes(package)
    made = await registered(home, upload)
    monitor = Monitor(
        home=home, kafka_properties=home / "secrets" / "kafka" / "monitor.properties", attributed_per_s=10.0,
        service_database=service_url("monitor"),
    )  # fmt: skip
    speaker = {
        name: Settings(home=home, kafka_properties=home / "secrets" / "kafka" / f"{name}.properties")
        for name in ("deployer", "scorer")
    }
    endpoint, random, start = fresh(), np.random.default_rng(7), aligned(300)
    x = np.concatenate([inputs(random, 1_200), inputs(random, 1_200, paired=changes)]).astype(np.float32)
    said = model.predict(x)
    at = [start + timedelta(seconds=n / 15) for n in range(len(x))]
    records = [
        record(endpoint, made, row, float(y), seq, when)
        for seq, (row, y, when) in enumerate(zip(x, said, at, strict=True))
    ]
    settings = MonitorSettings(window_s=10.0, budget_rows=1_000_000)
    event = deployment(endpoint, made.model_schema, made.baseline_digest, monitor=settings)
    await say_deployment(speaker["deployer"], event)
    async with platform(home, service_url, made, monitor) as db:
        await say_logged(speaker["scorer"], records)

        async def counted() -> Influences | None:
            try:
                found = await told(db, endpoint)
            except NotFound:
                return None
            return found if found.windows == 16 else None

        found = await eventually(counted, within=120, every=0.5)
        with use(ENGINEER):
            standing = await Reading(db).standing(endpoint)
    assert found.rows == 1_600 and found.reference_rows == 750
    assert found.known and found.known.facts["method"] == "trees" and found.known.facts["output"] == "value"
    moved = {effect.name: effect.effect for effect in (standing.last.columns if standing.last else ())}
    assert all(abs(moved[name]) < 0.35 for name in ("gate", "one", "other")), "of a window of 150 rows"
    assert standing.alarm is None, "neither columns nor pairs nor predictions moved"
    if not changes:
        assert (found.state, found.findings) == ("watching", [])
        return
    assert found.alarm is not None and found.state == "alarmed"
    drift: DriftDetected = found.alarm.event
    by_column = {each.column: each for each in drift.attributions or ()}
    assert {"one", "other"} & set(by_column)
    for name, grew in (("one", True), ("other", False)):
        if name in by_column:
            assert (by_column[name].now > by_column[name].before) is grew
    assert abs((drift.since - start).total_seconds() - 80) <= 40
    assert drift.features[0].unit == "share" and drift.budget_rows == 1_000_000


def asked(rows: list[tuple[Any, ...]], explaining: Explaining = "exact") -> AttributionsRequested:
    window = Window(**{"from": AT, "to": AT + timedelta(seconds=10)}, rows=len(rows))
    return AttributionsRequested(
        endpoint="credit", model="credit", version=1, window=window, explaining=explaining, rows=tuple(rows),
        reference=True,
    )  # fmt: skip


@pytest.fixture
def measured(tmp_path: Path, home: Path, service_db: Callable[[Service], Database]) -> Callable[..., Any]:
    async def measure(upload: bytes | Path, event: AttributionsRequested, **more: Any) -> Any:
        path = upload if isinstance(upload, Path) else tmp_path / "upload"
        if isinstance(upload, bytes):
            path.write_bytes(upload)
        settings = ScorerSettings(home=home, attribution_cpu=0.2, **more)
        made, burial = await registered(home, path), Burial(settings, "scorer")
        watching = Watching(settings, service_db("scorer"), Objects(settings), Shelf(made), burial, Progress())
        try:
            with use(ENGINEER):
                began, pace = time.monotonic(), watching.pace()
                said = await watching.measured(event, "retail", pace)
                # It rests four times as long as it works on rows; what it says it took is the work alone.
                assert said.busy_s > 0 and said.busy_s + 4 * pace.rested_for_s <= time.monotonic() - began
                return said
        finally:
            watching._models.close()
            await all_ended()

    return measure


async def test_rows_are_explained_as_their_explanations_are_and_odd_ones_are_counted(
    measured: Callable[..., Any],
) -> None:
    model, package = gated()
    said = await measured(package, asked([(1.0, 1.5, 0.1), (0.0, 1.5, 0.1), (1.0, "x", 0.0), (1.0, 2.0)] * 30))
    assert (said.method, said.scale, said.unexplained, said.cannot) == ("trees", "value", 60, None)
    assert said.columns == ("gate", "one", "other") and len(said.reference) == 750
    answers = model.predict(np.array([[1.0, 1.5, 0.1], [0.0, 1.5, 0.1]], np.float32))
    sums = [sum(row) for row in said.rows]
    assert len(sums) == 60 and sums[-2:] == sums[:2]
    assert sums[0] - sums[1] == pytest.approx(answers[0] - answers[1], abs=1e-4)


async def test_of_many_classes_each_row_is_explained_by_its_own(measured: Callable[..., Any]) -> None:
    model, package = three_classes()
    x = np.array([[1.5, 0.0, 0.0], [0.0, 1.5, 0.0], [-1.0, -1.0, 0.0], [1.4, 0.1, 0.3]], np.float32)
    said = await measured(package, asked([tuple(row) for row in x.tolist()]))
    assert (said.method, said.scale, said.output) == ("trees", "probability", "probabilities[likeliest]")
    scores, sums = np.asarray(model.predict_proba(x)), np.array([sum(row) for row in said.rows])
    assert np.argmax(scores, axis=1).tolist() == [0, 1, 2, 0]
    assert sums[0] - sums[3] == pytest.approx(scores[0, 0] - scores[3, 0], abs=1e-4)
    strongest = [said.columns[place] for place in np.argmax(np.abs(said.rows), axis=1)]
    assert strongest[:2] == ["a", "b"] and (sums > 0.2).all()
    influence = np.abs(said.reference).mean(axis=0)
    assert min(influence[:2]) > 3 * influence[2], "both columns that tell classes apart are seen"


async def test_classes_of_a_model_without_a_structure_are_asked_for(tmp_path: Path) -> None:
    class Opaque:
        def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            x = inputs["X"].astype(float)
            scores = np.exp(np.column_stack([x[:, 0], x[:, 1], np.zeros(len(x))]))
            return {"y": np.argmax(scores, axis=1), "p": scores / scores.sum(axis=1, keepdims=True)}

    columns = tuple(Column(name=name) for name in "ab")
    outputs = TensorSpec(name="y", datatype="INT64", shape=(-1,)), TensorSpec(name="p", datatype="FP64", shape=(-1, 3))
    schema = ModelSchema(
        inputs=(TensorSpec(name="X", datatype="FP64", shape=(-1, 2)),), outputs=outputs, columns=columns,
        prediction="y", score="p",
    )  # fmt: skip
    rows = np.random.default_rng(1).normal(size=(60, 2))
    opened = Opened(cast(Any, Opaque()), {}, Coding(columns, {}), rows)
    measure, _ = await attributions.measure(opened, schema, "any", "python")
    x = [(2.0, 0.0), (0.0, 2.0), (-2.0, -2.0)]
    found, odd = await measure.contributions(x, lambda coding: asking(opened.runtime, coding, schema.inputs))
    assert odd == 0 and np.argmax(np.abs(found[:2]), axis=1).tolist() == [0, 1] and (found.sum(axis=1) > 0).all()


def function(folder: Path) -> Path:
    """A model without a structure."""
    x = inputs(np.random.default_rng(1), 200)
    out = io.BytesIO()
    pq.write_table(pa.table(dict(zip(("gate", "one", "other"), x.T, strict=True))), out)
    code = b"import numpy as np\ndef predict(inputs):\n    x = inputs['X']\n    return x[:, 0] * x[:, 1] + x[:, 2]\n"
    laid = code_models.laid(
        folder, {"model.py": code, "t.parquet": out.getvalue()}, format="python", model="model.py",
        training="t.parquet", columns=COLUMNS,
    )  # fmt: skip
    return Path(shutil.make_archive(str(laid), "zip", laid))


async def test_a_model_without_a_structure_says_so_and_is_asked_where_that_is_set(
    measured: Callable[..., Any], tmp_path: Path
) -> None:
    package, rows = function(tmp_path / "function"), [(1.0, 2.0, 0.5), (0.0, 2.0, 0.5)]
    refused = await measured(package, asked(rows))
    assert refused.cannot and "tells no exact attributions; with attributions: any" in refused.cannot
    assert (refused.rows, refused.unexplained, refused.reference) == ((), 2, None)
    said = await measured(package, asked(rows, "any"))
    assert (said.method, said.scale, said.cannot) == ("exact", "value", None)
    assert sum(said.rows[0]) - sum(said.rows[1]) == pytest.approx(2.0, abs=1e-4) and len(said.reference) == 175
    slow = await measured(package, asked(rows, "any"), attribution_s=1e-3)
    assert slow.cannot == "too slow to be asked: to explain it takes more than 0.001 s of work"
    assert (slow.rows, slow.reference, slow.unexplained) == ((), None, 2)


async def test_what_cannot_be_explained_says_why(measured: Callable[..., Any]) -> None:
    bare = catalog_models.package(
        catalog_models.skops_bytes(catalog_models.forest()), format_="sklearn", columns=catalog_models.COLUMNS
    )  # fmt: skip
    assert "brings no training rows" in (await measured(bare, asked([(1.0, 1.0, 1.0)]))).cannot
    secret = [{"name": "a", "sensitive": True}, {"name": "b"}, {"name": "c"}]
    files = {"t.parquet": catalog_models.rows()}
    hidden = catalog_models.package(
        catalog_models.skops_bytes(catalog_models.forest()), files=files, format_="sklearn", training="t.parquet",
        label="y", columns=secret,
    )  # fmt: skip
    assert "column a is sensitive" in (await measured(hidden, asked([(1.0, 1.0, 1.0)]))).cannot
