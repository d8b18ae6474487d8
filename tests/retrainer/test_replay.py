"""A challenger is held against what was decided: agreement on all rows, and who was right where the truth is known."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contracts import Column, Service, TensorSpec
from services.kit.context import Context, use
from services.kit.errors import Forbidden, NotFound
from services.kit.models.wire import Tensors
from services.kit.objects import Objects
from services.kit.service import Parts, application
from services.kit.tokens import mint
from services.retrainer import api
from services.retrainer.answers import asked
from services.retrainer.domain import Answers, Incomparable, Recorded, Replayed, replayed
from services.retrainer.gateway import Governor
from services.retrainer.settings import RetrainerSettings
from services.retrainer.usecases import Wish
from services.retrainer.workshop import Workshop

from . import making
from .making import AT, ENGINEER, OTHER_UNIT, House, Shelf


def job(**wish: Any) -> Any:
    given = {"of": "threshold", "until": None, "against": None} | wish
    return replace(making.job(), kind="replay", wish=given)


async def held_against(tmp_path: Path, rows: bytes | None, threshold: float = 0.6, **wish: Any) -> Replayed:
    settings = RetrainerSettings(home=tmp_path / "home", scoring_s=60, replay_rows=wish.pop("most", 1000))
    objects = Objects(settings)
    model = making.registered(
        await objects.put(making.package(threshold=threshold)), version=2, **wish.pop("about", {})
    )
    return await Workshop(settings, objects, Shelf(objects, rows)).replay(job(**wish), model)


async def test_a_challenger_that_is_right_more_often_shows_it_on_the_rows_whose_truth_is_known(tmp_path: Path) -> None:
    made = await held_against(tmp_path, making.decided(threshold=0.4, truth=0.6, labelled=300))
    assert (made.state, made.rows, made.labelled, made.by_version) == ("replayed", 400, 300, {"1": 200, "2": 200})
    assert made.agreement is not None and 0.7 < made.agreement < 0.9
    assert made.comparison and made.comparison.rows == 300
    assert made.comparison.candidate["accuracy"] > 0.97 > 0.9 > made.comparison.champion["accuracy"]
    assert made.comparison.candidate_is_better
    assert "both decide alike in" in made.reason and "on 300" in made.reason
    assert {"brier_score", "roc_auc"} <= made.comparison.champion.keys()


async def test_a_version_that_decides_the_same_agrees_in_every_row(tmp_path: Path) -> None:
    made = await held_against(tmp_path, making.decided(threshold=0.6, labelled=0))
    assert (made.agreement, made.labelled, made.comparison) == (1.0, 0, None)
    assert "too few to judge" in made.reason


async def test_rows_are_those_of_the_time_and_the_version_that_were_asked_for(tmp_path: Path) -> None:
    rows = making.decided()
    until = (AT + timedelta(minutes=250)).isoformat()
    assert (await held_against(tmp_path / "a", rows, until=until)).by_version == {"1": 200, "2": 50}
    assert (await held_against(tmp_path / "b", rows, against=2)).by_version == {"2": 200}
    assert (await held_against(tmp_path / "c", rows, most=60)).by_version == {"2": 60}  # the newest
    none = await held_against(tmp_path / "d", rows, against=7)
    assert (none.state, "no recorded row" in none.reason) == ("failed", True)


async def test_what_cannot_be_replayed_fails_with_its_reason(tmp_path: Path) -> None:
    assert "makes no snapshot" in (await held_against(tmp_path / "a", None)).reason
    schema = making.SCHEMA.model_copy(update={
        "columns": (Column(name="size"), Column(name="colour")),
        "inputs": (TensorSpec(name="X", datatype="FP32", shape=(-1, 2)),),
    })  # fmt: skip
    other = await held_against(tmp_path / "b", making.decided(), about={"model_schema": schema})
    assert (other.state, "no column colour" in other.reason) == ("failed", True)


async def test_a_challenger_that_does_not_take_what_requests_set_is_not_compared(tmp_path: Path) -> None:
    none = await held_against(tmp_path / "a", making.decided(params=[None]))
    assert none.state == "replayed"
    one = await held_against(tmp_path / "b", making.decided(params=[None, '{"cut":0.5}']))
    assert (one.state, one.reason) == ("failed", "rows were decided with param cut, which the challenger does not take")


class Cutting:
    """A sandboxed model whose params say where it cuts."""

    async def predict(self, inputs: Tensors, params: bytes = b"") -> Tensors:
        cut = json.loads(params or b"{}").get("cut", 0.0)
        labels = (inputs["X"][:, 0] > cut).astype(np.int64)
        return {"label": labels, "probabilities": np.stack([inputs["X"][:, 0]] * 2, axis=1)}


async def test_every_row_is_asked_with_what_its_request_set(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float32)
    np.savez(tmp_path / "held.npz", X=np.stack([rows, rows], axis=1))
    (tmp_path / "params.json").write_text(json.dumps({"sets": ["", '{"cut":4}'], "of": [0, 1, 0, 1, 0, 1]}))
    model: Any = Cutting()
    made = await asked(model, making.SCHEMA, tmp_path / "held.npz", tmp_path / "params.json")
    assert made.predictions.tolist() == [0, 0, 1, 0, 1, 1]
    assert made.scores is not None and made.scores[:, 0].tolist() == rows.tolist()


def test_numbers_are_compared_by_their_distance() -> None:
    said = Recorded(np.array([1.0, 2.0]), np.array([np.nan, np.nan]), np.array([np.nan, np.nan]))
    made = replayed(said, Answers(np.array([1.5, 2.0])), {"1": 2}, "d", regression=True, confidence=0.95, seed="s")
    assert (made.agreement, made.difference) == (None, 0.25)
    with pytest.raises(Incomparable, match="1 answers to 2 rows"):
        replayed(said, Answers(np.array([1.5])), {}, "d", regression=True, confidence=0.95, seed="s")


def test_texts_and_unknown_truths_are_told_apart() -> None:
    labels = np.array(["yes", "", "no"] * 10)
    said = Recorded(np.array(["yes", "no", "no"] * 10), np.full(30, np.nan), labels)
    made = replayed(said, Answers(np.array(["yes", "no", "yes"] * 10)), {"1": 30}, "d", regression=False,
                    confidence=0.95, seed="s")  # fmt: skip
    assert (made.labelled, made.agreement) == (20, round(2 / 3, 4))
    assert made.comparison and (made.comparison.champion["accuracy"], made.comparison.candidate["accuracy"]) == (1, 0.5)


async def test_a_replay_is_a_job_that_is_done_once_and_seen_in_its_unit(house: House) -> None:
    await house.knows()
    house.shelf.data = making.decided()
    wish = Wish("sizes", "threshold", 1, until=AT + timedelta(days=1), against=2)
    with use(Context(OTHER_UNIT)), pytest.raises((Forbidden, NotFound)):
        await house.retrainer.replay(OTHER_UNIT, wish)
    with use(Context(ENGINEER)):
        asked = await house.retrainer.replay(ENGINEER, wish)
        with pytest.raises(NotFound):
            await house.retrainer.replay(ENGINEER, Wish("sizes", "threshold", 9))
    assert await house.retrainer.work()
    with use(Context(ENGINEER)):
        done = await house.retrainer.job(asked.id, "replay")
        with pytest.raises(NotFound):
            await house.retrainer.job(asked.id, "retraining")
    assert (done.state, done.result["by_version"], done.wish["of"]) == ("replayed", {"2": 200}, "threshold")
    assert not await house.retrainer.work()
    assert await house.said() == []


async def test_over_http_a_replay_is_asked_for_and_what_is_wrong_is_named(
    house: House, home: Path, service_url: Callable[[Service], str]
) -> None:
    await house.knows()
    settings = RetrainerSettings(home=home, service_database=service_url("retrainer"))
    app = application(Parts("retrainer", settings, house.db, routers=[api.router(house.retrainer, Governor(settings))]))
    token = mint(home / "keys" / "issuer.key", "engineer", ["engineer"], ["retail"], "person")
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://retrainer", headers=headers
    ) as client:
        ask = {"endpoint": "sizes", "model": "threshold", "version": 1, "since": "2026-03-02T09:00:00Z"}
        made = await client.post("/v1/replays", json=ask)
        assert (made.status_code, made.json()["state"]) == (202, "requested")
        assert (await client.get(made.headers["location"])).json()["wish"]["of"] == "threshold"
        assert len((await client.get("/v1/replays?endpoint=sizes")).json()["items"]) == 1
        for wrong, field in (
            ({"until": "soon"}, "until"),
            ({"against": 0}, "against"),
            ({"endpoint": "É"}, "endpoint"),
        ):
            refused = await client.post("/v1/replays", json=ask | wrong)
            assert (refused.status_code, refused.json()["field"]) == (422, field)
