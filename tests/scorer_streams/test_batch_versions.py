"""A batch that names the version to ask: any that the endpoint holds, and a clear word about any other."""

from typing import Any

import httpx
import pytest

from contracts import Variant
from tests.scorer.making import classifier, package

from .conftest import Stage
from .test_batches import URL, client, done, log_of, parquet, result, submit, table

__all__ = ["client"]

ROWS = [{"age": 0.5, "income": 0.5, "debt": 0.5}]
"""Decided as 1 by the champion, and as 0 by the version beside it."""


def beside(stage: Stage, **shadow: Any) -> tuple[Variant, Variant]:
    """A champion, and a shadow that decides otherwise, with its own package and grant."""
    house = stage.house
    champion = house.variant("loans", house.keep(package(classifier())), 1)
    other = house.variant("loans", house.keep(package(classifier(200.0))), 3, name="shadow", role="shadow", **shadow)
    return champion, other


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_the_version_that_is_named_decides_every_row_and_stands_in_the_log(
    stage: Stage, client: httpx.AsyncClient, processes: str
) -> None:
    stage.say(stage.house.change("loans", *beside(stage), revision=2))
    stage.start("batches", FAIRLEAD_BATCH_PROCESSES=processes)
    accepted = await client.post(
        URL, data={"endpoint": "loans", "version": "3"}, files={"file": ("rows.parquet", parquet(table(1_200)))}
    )
    assert accepted.status_code == 202 and accepted.json()["version"] == 3, accepted.text
    job = await done(client, accepted.json()["id"])
    assert (job["state"], job["rows_done"], job["version"]) == ("done", 1_200, 3), job
    assert job["summary"]["decisions"]["versions"] == {"3": 1_200}
    assert set((await result(client, job["id"]))["prediction"].to_pylist()) == {0}
    assert {(log.version, log.variant) for log in await log_of(stage, job["id"])} == {(3, "shadow")}
    plain = await done(client, (await submit(client, parquet(table(1_200)))).json()["id"])
    assert plain["version"] is None and plain["summary"]["decisions"]["versions"] == {"1": 1_200}
    assert set((await result(client, plain["id"]))["prediction"].to_pylist()) == {0, 1}


async def test_every_way_of_handing_in_names_a_version(stage: Stage, client: httpx.AsyncClient) -> None:
    stage.say(stage.house.change("loans", *beside(stage), revision=2))
    csv = {"content-type": "text/csv"}
    body = await client.post(URL, params={"endpoint": "loans", "version": 3}, content=b"age,income,debt\n1,1,1\n",
                             headers=csv)  # fmt: skip
    rows = await client.post(URL, json={"endpoint": "loans", "version": 3, "rows": ROWS})
    assert [answer.json()["version"] for answer in (body, rows)] == [3, 3]
    for wrong in ("0", "x", "1.5", ""):
        answer = await client.post(URL, params={"endpoint": "loans", "version": wrong}, content=b"x", headers=csv)
        assert (answer.status_code, answer.json()["field"]) == (422, "version"), answer.text


async def test_a_version_that_may_not_serve_there_is_refused_with_the_reason(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    champion, shadow = beside(stage)
    stage.say(stage.house.change("loans", champion, shadow, revision=2))

    async def refused(version: int) -> str:
        answer = await client.post(URL, json={"endpoint": "loans", "version": version, "rows": ROWS})
        assert (answer.status_code, answer.json()["field"]) == (422, "version"), answer.text
        return answer.json()["detail"]

    assert "endpoint loans has no version 2; it has 1, 3 (what is approved and deployed there)" in await refused(2)
    stage.withdraw("loans", shadow)
    assert "the approval of version 3 at endpoint loans was withdrawn" in await refused(3)
    stage.say(stage.house.change("loans", champion, revision=3))
    assert "endpoint loans has no version 3; it has 1" in await refused(3)


async def test_a_version_that_cannot_be_loaded_is_away_and_the_champion_is_not(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    champion, _ = beside(stage)
    broken = stage.house.variant("loans", stage.house.keep(package(b"no model")), 3, name="shadow", role="shadow")
    stage.say(stage.house.change("loans", champion, broken, revision=2))
    answer = await client.post(URL, json={"endpoint": "loans", "version": 3, "rows": ROWS})
    assert answer.status_code == 503 and "version 3 of endpoint loans is not loaded" in answer.text
    stage.start("batches", FAIRLEAD_BATCH_PROCESSES="2")
    job = await done(client, (await submit(client, parquet(table(3)))).json()["id"])
    assert job["state"] == "done", "what cannot be loaded beside the champion stands in nobody's way"


async def test_a_batch_whose_version_is_withdrawn_before_its_turn_fails_and_says_so(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    champion, shadow = beside(stage)
    stage.say(stage.house.change("loans", champion, shadow, revision=2))
    id = (await client.post(URL, json={"endpoint": "loans", "version": 3, "rows": ROWS})).json()["id"]
    stage.withdraw("loans", shadow)
    stage.start("batches")
    job = await done(client, id)
    assert (job["state"], job["reason"]) == ("failed", "the approval of version 3 at endpoint loans was withdrawn")
