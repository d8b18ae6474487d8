"""Explanations of decisions by registered versions: a real package out of the object store, in a real sandbox."""

import asyncio
import io
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import RandomForestClassifier

from contracts import Service, Training
from examples.census import build
from services.catalog.domain import Candidate
from services.catalog.intake import Intake
from services.catalog.settings import CatalogSettings
from services.kit.context import Caller, Context, use
from services.kit.db import Database
from services.kit.environments import Environments
from services.kit.errors import Conflict, Invalid, NotFound
from services.kit.objects import Objects
from services.kit.testing import eventually
from services.scorer.explanations import background
from services.scorer.explanations.domain import Explanation
from services.scorer.explanations.gateway import Records, Version
from services.scorer.explanations.usecases import Explainer, Wish
from services.scorer.settings import ScorerSettings
from tests import code_models
from tests.catalog import models as catalog_models

pytestmark = pytest.mark.timeout(180)

ENGINEER = Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"}))
STRANGER = Caller("other-unit", "person", frozenset({"engineer"}), frozenset({"wealth"}))
APPLICATION = Caller("application", "application", frozenset({"application"}), frozenset({"retail"}))
"""Not the one that asked for the decision."""
X = np.array([0.4, 0.3, -1.0])


class Shelf(Records):
    """The decision and the version that recorder and catalog would tell of."""

    def __init__(self, made: Candidate, **decision: Any) -> None:
        self.made = made
        columns = [column.name for column in made.model_schema.columns]
        features = dict(zip(columns, X.tolist(), strict=False))
        self.told: dict[str, Any] = {
            "inference_id": "one", "unit": "retail", "endpoint": "credit", "model": "credit", "version": 1, "rows": 1,
            "application": "shop", "received_at": "2026-03-01T12:00:00+00:00",
            "decided": [{"row": 0, "features": features, "prediction": 1, "score": None}],
        } | decision  # fmt: skip

    async def decision(self, inference_id: str, row: int) -> dict[str, Any]:
        if inference_id != "one":
            raise NotFound("no")
        return self.told

    async def version(self, model: str, version: int) -> Version:
        return Version(self.made.digest, self.made.manifest.format, self.made.model_schema)


async def registered(home: Path, upload: Path) -> Candidate:
    settings = CatalogSettings(home=home)
    intake = Intake(settings, Objects(settings))
    async with intake.folder() as work:
        return await intake.candidate(await intake.pack(upload, work, {}), Training())


@pytest.fixture
def explained(
    tmp_path: Path, service_db: Callable[[Service], Database]
) -> Callable[..., Any]:  # fmt: skip
    async def explain(
        upload: bytes | Path,
        caller: Caller = ENGINEER,
        id: str = "one",
        decision: dict[str, Any] | None = None,
        **more: Any,
    ) -> Explanation:
        path = upload if isinstance(upload, Path) else tmp_path / "upload"
        if isinstance(upload, bytes):
            path.write_bytes(upload)
        settings = ScorerSettings(home=tmp_path / "home")
        made = await registered(settings.home, path)
        explainer = Explainer(settings, service_db("scorer"), Objects(settings), Shelf(made, **(decision or {})))
        with use(Context(caller)):
            try:
                wish = Wish(id, more.get("row", 0), more.get("immutable", ()), 5.0, more.get("about"))
                found = await explainer.explain(caller, wish)
            finally:
                explainer.close()
                await all_ended()
            assert await explainer.show(found.id, caller) == found
            assert await explainer.of_decision(id, caller) == [found]
        return found

    return explain


def package(**more: Any) -> bytes:
    files = {"t.parquet": catalog_models.rows()}
    said = {"training": "t.parquet", "label": "y", "columns": catalog_models.COLUMNS} | more
    return catalog_models.package(
        catalog_models.skops_bytes(catalog_models.forest()), files=files, format_="sklearn", **said
    )


async def test_a_forest_s_decision_is_explained_exactly_and_turned_by_few_columns(
    explained: Callable[..., Any],
) -> None:
    made = await explained(package())
    assert (made.method, made.scale, made.output) == ("trees", "probability", "probabilities[1]")
    proba = np.asarray(catalog_models.forest().predict_proba(X[None, :].astype(np.float32)))[0, 1]
    assert made.value == pytest.approx(proba, abs=1e-6)
    assert made.base + sum(each.contribution for each in made.contributions) == pytest.approx(made.value)
    shares = {each.column: each.contribution for each in made.contributions}
    assert min(shares["a"], shares["b"]) > abs(shares["c"]), "c has nothing to do with it"
    assert made.counterfactual_decides == 0
    turned = X.copy()
    for step in made.counterfactual:
        turned["abc".index(step.column)] = step.instead
    assert catalog_models.forest().predict(turned[None, :].astype(np.float32))[0] == 0


def three_classes() -> tuple[RandomForestClassifier, bytes]:
    """A forest that sends away where `a` is large, refers where `b` is, and else grants; `c` counts for nothing."""
    x = np.random.default_rng(5).normal(size=(400, 3)).astype(np.float32)
    y = np.where(x[:, 0] > 0.5, 0, np.where(x[:, 1] > 0.5, 1, 2))
    model = RandomForestClassifier(10, max_depth=4, random_state=0).fit(x, y)
    out = io.BytesIO()
    pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y}), out)
    said = {"training": "t.parquet", "label": "y", "columns": catalog_models.COLUMNS}
    files = {"t.parquet": out.getvalue()}
    return model, catalog_models.package(catalog_models.skops_bytes(model), files=files, format_="sklearn", **said)


@pytest.mark.parametrize("about", [None, 2, "0", 1])
async def test_of_many_classes_the_one_that_was_decided_or_that_is_named_is_explained(
    explained: Callable[..., Any], about: int | str | None
) -> None:
    model, package = three_classes()
    x = np.array([0.0, 0.0, 1.0])
    decision = {"decided": [{"row": 0, "features": dict(zip("abc", x, strict=True)), "prediction": 2, "score": None}]}
    made = await explained(package, decision=decision, about=about)
    of = 2 if about is None else int(about)
    assert (made.decided, made.explained, made.output, made.method) == (2, of, f"probabilities[{of}]", "trees")
    scores = np.asarray(model.predict_proba(x[None, :].astype(np.float32)))[0]
    assert made.value == pytest.approx(scores[of], abs=1e-6)
    assert made.base + sum(each.contribution for each in made.contributions) == pytest.approx(made.value)
    assert made.counterfactual_decides == of if of != 2 else made.counterfactual_decides in (0, 1)
    if of != 2:
        (step,) = made.counterfactual
        assert step.column == "ab"[of] and step.instead > 0.3


async def test_a_decision_that_the_model_does_not_make_cannot_be_asked_about(explained: Callable[..., Any]) -> None:
    with pytest.raises(Invalid, match=r"decides 7 of none of its reference rows; it decides 0, 1$"):
        await explained(package(), about=7)


async def test_a_column_that_may_not_change_stays(explained: Callable[..., Any]) -> None:
    columns = [{"name": "a", "protected": True}, {"name": "b"}, {"name": "c"}]
    made = await explained(package(columns=columns), immutable=("b",))
    assert made.counterfactual is None or {step.column for step in made.counterfactual} <= {"c"}
    assert made.counterfactual or "may change" in made.no_counterfactual


async def test_a_pipeline_of_few_columns_is_explained_by_all_subsets(explained: Callable[..., Any]) -> None:
    model = catalog_models.skops_bytes(catalog_models.logistic())
    files = {"t.parquet": catalog_models.rows()}
    made = await explained(
        catalog_models.package(model, files=files, format_="sklearn", training="t.parquet", label="y",
                               columns=catalog_models.COLUMNS)
    )  # fmt: skip
    assert made.method == "exact" and all(each.error is None for each in made.contributions)
    assert made.base + sum(each.contribution for each in made.contributions) == pytest.approx(made.value, abs=1e-6)


async def test_many_columns_without_a_structure_are_sampled_with_stated_errors(
    explained: Callable[..., Any], tmp_path: Path
) -> None:
    names, rows = [f"c{n}" for n in range(14)], np.random.default_rng(1).normal(size=(80, 14))
    out = io.BytesIO()
    pq.write_table(pa.table(dict(zip(names, rows.T, strict=True))), out)
    code = b"import numpy as np\ndef predict(inputs):\n    x = inputs['X']\n    return np.tanh(x[:, 0]) + x[:, 1]\n"
    folder = code_models.laid(
        tmp_path / "function", {"model.py": code, "t.parquet": out.getvalue()}, format="python", model="model.py",
        training="t.parquet", columns=[{"name": name} for name in names],
    )  # fmt: skip
    upload = Path(shutil.make_archive(str(folder), "zip", folder))
    row = {name: float(rows[3, n]) for n, name in enumerate(names)}
    value = float(np.tanh(rows[3, 0]) + rows[3, 1])
    decided = [{"row": 0, "features": row, "prediction": value, "score": None}]
    made = await explained(upload, decision={"decided": decided})
    assert (made.method, made.scale, made.output) == ("sampled", "value", "prediction")
    shares = {each.column: each for each in made.contributions}
    assert shares["c1"].contribution == pytest.approx(rows[3, 1] - rows[:, 1].mean(), abs=4 * shares["c1"].error + 1e-6)
    assert all(shares[f"c{n}"].contribution == 0 for n in range(2, 14))
    assert made.base + sum(each.contribution for each in made.contributions) == pytest.approx(made.value)


def decided(prediction: float | str, **features: float | str) -> dict[str, Any]:
    return {"decided": [{"row": 0, "features": features, "prediction": prediction, "score": None}]}


def texts_package() -> bytes:
    files = {"t.parquet": catalog_models.texts_rows()}
    return catalog_models.package(catalog_models.texts_onnx(), files=files, training="t.parquet")


async def test_a_decision_over_texts_is_explained_and_turned_by_another_class(explained: Callable[..., Any]) -> None:
    made = await explained(texts_package(), decision=decided(1, job="pilot", age=38.0))
    assert (made.method, made.output) == ("exact", "probabilities[1]")
    shares = {each.column: each for each in made.contributions}
    assert shares["job"].value == "pilot" and shares["job"].contribution > 0.2 > 0 > shares["age"].contribution
    assert made.base + sum(each.contribution for each in made.contributions) == pytest.approx(made.value, abs=1e-6)
    (step,) = made.counterfactual
    assert (step.column, step.value) == ("job", "pilot") and step.instead in ("baker", "nurse")
    assert made.counterfactual_decides == 0


async def test_a_class_that_no_reference_row_has_is_explained_too(explained: Callable[..., Any]) -> None:
    made = await explained(
        texts_package(), decision=decided(0, job="qu\0een" + "n" * 2000, age=30.0), immutable=("age",)
    )
    job = next(each for each in made.contributions if each.column == "job")
    assert job.value.startswith("qu\ufffdeen") and len(job.value) == 1000
    assert [(step.column, step.instead) for step in made.counterfactual] == [("job", "pilot")]


async def test_a_text_where_a_number_belongs_is_not_explained(explained: Callable[..., Any]) -> None:
    with pytest.raises(Conflict, match="column job: the model takes a text, and the log holds none"):
        await explained(texts_package(), decision=decided(0, job=3.0, age=30.0))


@pytest.mark.timeout(400)
async def test_an_mlflow_pipeline_over_texts_is_registered_profiled_and_explained(
    explained: Callable[..., Any], tmp_path: Path, shared_environments: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "environments").symlink_to(shared_environments)
    folder = tmp_path / "texts"
    environments = Environments.of(CatalogSettings(home=tmp_path / "home"))
    assert await asyncio.to_thread(code_models.mlflow_texts, folder, environments) == ["yes", "no"]
    upload = Path(shutil.make_archive(str(folder), "zip", folder))
    made = await explained(upload, decision=decided("yes", job="pilot", zone="01", age=30.0))
    assert (made.method, made.decided, made.output) == ("exact", "yes", "prediction")
    shares = {each.column: each for each in made.contributions}
    assert shares["job"].contribution == max(each.contribution for each in made.contributions)
    assert shares["zone"].value == "01" and abs(shares["zone"].contribution) < 0.05
    (step,) = made.counterfactual
    assert (step.column, made.counterfactual_decides) == ("job", "no") and step.instead in ("baker", "nurse")


@pytest.mark.timeout(400)
async def test_a_decision_is_explained_with_the_params_that_its_request_set(
    explained: Callable[..., Any], tmp_path: Path, shared_environments: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "environments").symlink_to(shared_environments)
    environments = Environments.of(CatalogSettings(home=tmp_path / "home"))
    folder = await asyncio.to_thread(code_models.mlflow_params, tmp_path / "cut", environments)
    upload = Path(shutil.make_archive(str(folder), "zip", folder))
    said = decided("no", age=0.5, income=0.25, debt=0.0)
    made = await explained(upload, decision=said | {"params": {"threshold": 1.0}})
    assert (made.method, made.decided, made.counterfactual_decides) == ("exact", "no", "yes")
    with pytest.raises(Conflict, match="decides yes today where the log says no"):
        await explained(upload, decision=said | {"params": None})


@pytest.fixture
async def explainer(
    tmp_path: Path, service_db: Callable[[Service], Database]
) -> AsyncIterator[tuple[Explainer, "Withdrawable"]]:
    """An explainer of one sandboxed version, which may be withdrawn."""
    (path := tmp_path / "upload").write_bytes(package())
    settings = ScorerSettings(home=tmp_path / "home", explained_kept_s=8.0)
    shelf = Withdrawable(await registered(settings.home, path))
    made = Explainer(settings, service_db("scorer"), Objects(settings), shelf)
    yield made, shelf
    made.close()
    await all_ended()


class Withdrawable(Shelf):
    """Whose version may be retired."""

    is_registered = True

    async def version(self, model: str, version: int) -> Version:
        return replace(await super().version(model, version), is_registered=self.is_registered)


def sandboxes() -> set[int]:
    """Processes of models that are open now."""
    children = psutil.Process().children(recursive=True)
    found = set()
    for child in children:
        with suppress(psutil.NoSuchProcess):  # ended between, or not waited for yet
            if "services.kit.sandbox.worker" in child.cmdline():
                found.add(child.pid)
    return found


async def all_ended() -> None:
    """Models are closed beside what goes on: what is left of them when the loop ends fails a later test."""
    await eventually(lambda: not sandboxes(), within=20)
    await asyncio.sleep(0.1)


async def asked(explainer: Explainer) -> float:
    with use(Context(ENGINEER)):
        return (await explainer.explain(ENGINEER, Wish("one", 0, (), 30.0))).seconds


async def test_a_model_stays_open_for_the_next_explanation_and_goes_when_nobody_asks(
    explainer: tuple[Explainer, Withdrawable],
) -> None:
    first = await asked(explainer[0])
    kept = sandboxes()
    second = await asked(explainer[0])
    print(f"first {first:.2f} s, second {second:.2f} s")
    assert len(kept) == 1 and sandboxes() == kept
    together = await asyncio.gather(asked(explainer[0]), asked(explainer[0]))
    assert len(together) == 2
    await eventually(lambda: len(sandboxes()) == 1, within=10)
    await eventually(lambda: not sandboxes(), within=30)
    await asked(explainer[0])
    (pid,) = sandboxes()
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: pid not in sandboxes(), within=10)
    await asked(explainer[0])
    assert pid not in sandboxes()


async def test_a_withdrawn_version_is_not_kept(explainer: tuple[Explainer, Withdrawable]) -> None:
    made, shelf = explainer
    await asked(made)
    kept = sandboxes()
    shelf.is_registered = False
    await asked(made)
    await eventually(lambda: not sandboxes(), within=10)
    assert len(kept) == 1


TEXT_FUNCTION = b"""
import numpy as np

def predict(inputs):
    worth = {b"pilot": 3.0, b"nurse": 1.0}
    return np.array([worth.get(each, 0.0) for each in inputs["job"]]) + inputs["c1"]
"""


async def test_many_columns_with_texts_among_them_are_sampled(explained: Callable[..., Any], tmp_path: Path) -> None:
    random, names = np.random.default_rng(1), ["job", *[f"c{n}" for n in range(1, 14)]]
    columns: dict[str, Any] = {name: random.normal(size=90) for name in names}
    columns["job"] = ["baker", "nurse", "pilot"] * 30
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    inputs = [{"name": n, "datatype": "BYTES" if n == "job" else "FP64", "shape": [-1]} for n in names]
    folder = code_models.laid(
        tmp_path / "function", {"model.py": TEXT_FUNCTION, "t.parquet": out.getvalue()}, format="python",
        model="model.py", training="t.parquet", inputs=inputs,
    )  # fmt: skip
    upload = Path(shutil.make_archive(str(folder), "zip", folder))
    row = {name: float(columns[name][0]) for name in names[1:]}
    made = await explained(upload, decision=decided(3.0 + row["c1"], job="pilot", **row))
    assert made.method == "sampled"
    shares = {each.column: each for each in made.contributions}
    assert shares["job"].contribution == pytest.approx(3 - 4 / 3, abs=4 * shares["job"].error + 1e-6)
    assert all(shares[f"c{n}"].contribution == 0 for n in range(2, 14))


@pytest.mark.parametrize(
    ("caller", "id"),
    [(STRANGER, "one"), (APPLICATION, "one"), (ENGINEER, "another")],
    ids=["unit", "application", "id"],
)
async def test_a_decision_of_others_is_as_unknown_as_one_that_never_was(
    caller: Caller, id: str, explained: Callable[..., Any]
) -> None:
    with pytest.raises(NotFound, match="there is no recorded decision with this id"):
        await explained(package(), caller=caller, id=id)


async def test_what_cannot_be_explained_says_why(explained: Callable[..., Any]) -> None:
    row = {"row": 0, "prediction": 1, "score": None}
    with pytest.raises(Invalid, match="immutable: the model has no column nope"):
        await explained(package(), immutable=("nope",))
    with pytest.raises(Invalid, match="row: the decision has 1 rows"):
        await explained(package(), row=3)
    with pytest.raises(Conflict, match="no readable payload"):
        await explained(package(), decision={"decided": [row | {"features": {}}]})
    with pytest.raises(Conflict, match="column a: the model takes a number, and the log holds text"):
        await explained(package(), decision={"decided": [row | {"features": {"a": "x", "b": 1, "c": 1}}]})
    with pytest.raises(Conflict, match="where the log says 7"):
        await explained(
            package(), decision={"decided": [row | {"prediction": 7, "features": {"a": 1, "b": 1, "c": 1}}]}
        )
    bare = catalog_models.package(
        catalog_models.skops_bytes(catalog_models.forest()), format_="sklearn", columns=catalog_models.COLUMNS
    )  # fmt: skip
    with pytest.raises(Conflict, match="brings no training rows"):
        await explained(bare)
    secret = [{"name": "a", "sensitive": True}, {"name": "b"}, {"name": "c"}]
    with pytest.raises(Conflict, match="column a is sensitive"):
        await explained(package(columns=secret))


def test_the_census_package_brings_what_an_explanation_needs(tmp_path: Path) -> None:
    build.build(tmp_path)
    found = background.rows(str(tmp_path / "census-employment.zip"), "training.parquet", ["AGEP", "SEX"], (), 50)[
        "rows"
    ]
    assert found.shape == (50, 2) and set(found[:, 1]) == {1.0, 2.0}
