"""Batches at times and for files that arrive: each once, over several hosts and through kills."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx import ASGITransport
from sqlalchemy import text

from contracts import Service
from services.kit.connections import Connections
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.objects import Objects
from services.kit.service import Parts, application
from services.kit.testing import eventually
from services.kit.turns import Turns
from services.scorer.batches.api import router as batches_api
from services.scorer.batches.inputs import Inputs
from services.scorer.batches.places import Places
from services.scorer.batches.schedules.api import PATH, router
from services.scorer.batches.schedules.domain import Order, due
from services.scorer.batches.schedules.usecases import Schedules
from services.scorer.batches.serving import Serving
from services.scorer.batches.usecases import Batches
from tests.scorer.making import classifier

from .conftest import Stage
from .test_batches import connect, parquet, table

ARRIVING = {"endpoint": "loans", "arrives": {"connection": "rows", "prefix": "in"}}
HOURLY = {"endpoint": "loans", "cron": "0 * * * *", "input": {"connection": "rows", "path": "in/{date}.parquet"}}


@pytest.fixture
async def client(
    stage: Stage, service_db: Callable[[Service], Database], service_url: Callable[[Service], str]
) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP side; the process that follows schedules is started by each test."""
    settings, db = stage.house.settings, service_db("scorer")
    stage.database = service_url("scorer")
    stage.serve("loans", classifier())
    objects, serving, places = Objects(settings), Serving(settings), Places(Connections.of(settings))
    batches = Batches(db, objects, Inputs.of(settings, objects), serving.allowed, places)
    routers = [router(Schedules(db, serving.allowed, places)), batches_api(batches, Turns("files", 8, 2))]
    app = application(Parts(service="scorer", settings=settings, db=db, routers=routers))
    authorization = {"Authorization": f"Bearer {stage.house.token()}"}
    async with httpx.AsyncClient(
        transport=ASGITransport(app), base_url="http://scorer", headers=authorization
    ) as made:  # fmt: skip
        yield made


@pytest.fixture
def folder(stage: Stage) -> Path:
    made = connect(stage.house.settings) / "in"
    made.mkdir()
    return made


def drop(folder: Path, name: str, rows: int) -> None:
    """A file as a careful writer leaves it: whole from the moment on that it has its name."""
    part = folder.parent / f"{name}.part"
    part.write_bytes(parquet(table(rows)))
    part.rename(folder / name)


async def runs(client: httpx.AsyncClient, id: str) -> list[dict[str, Any]]:
    return (await client.get(f"{PATH}/{id}")).json()["runs"]


async def batches(client: httpx.AsyncClient, schedule: str) -> list[dict[str, Any]]:
    listed = (await client.get("/v1/batches", params={"limit": 200})).json()["items"]
    return [job for job in listed if job["schedule"] == schedule]


@pytest.mark.timeout(200)
async def test_every_file_that_arrives_is_scored_once_through_kills(
    stage: Stage, client: httpx.AsyncClient, folder: Path
) -> None:
    chance, sizes = random.Random(3), [11, 12, 13, 14, 15, 16]
    id = (await client.post(PATH, json=ARRIVING)).json()["id"]
    process = stage.start("batches")
    for number, size in enumerate(sizes):
        drop(folder, f"{number}.parquet", size)
        await asyncio.sleep(chance.uniform(1.0, 3.0))
        process.kill()
        process.wait()
        process = stage.start("batches")
    (folder / "bad.csv").write_bytes(b"age,income\n1,2,3\n")

    async def all_done() -> bool:
        made = await batches(client, id)
        return len(await runs(client, id)) == 7 and all(job["state"] == "done" for job in made)

    assert await eventually(all_done, within=60, every=0.3)
    made = await batches(client, id)
    assert sorted(job["rows_done"] for job in made) == sizes
    found = await runs(client, id)
    assert sorted(run["batch"] for run in found if run["batch"]) == sorted(job["id"] for job in made)
    (bad,) = [run for run in found if run["reason"]]
    assert bad["key"].startswith("in/bad.csv@") and "csv" in bad["reason"]


async def test_a_time_is_run_once_over_two_hosts_and_those_that_were_missed_are_counted(
    stage: Stage, client: httpx.AsyncClient, folder: Path, service_db: Callable[[Service], Database]
) -> None:
    answer = await client.post(PATH, json=HOURLY)
    assert answer.status_code == 201, answer.text
    id, order = answer.json()["id"], answer.json()["order"]
    assert (order["cron"], answer.json()["next_at"][14:19]) == ("0 * * * *", "00:00")
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for day in (hour, hour - timedelta(days=1)):
        drop(folder, f"{day:%Y-%m-%d}.parquet", 5)
    with use(Context(system("scorer"))):
        async with service_db("scorer").transaction(unit="retail") as tx:
            late = {"id": id, "at": hour - timedelta(hours=3)}
            await tx.session.execute(text("UPDATE batch_schedule SET next_at = :at WHERE id = :id"), late)
    stage.start("batches")
    stage.start("batches")

    async def ran() -> list[dict[str, Any]]:
        return [job for job in await batches(client, id) if job["state"] == "done"]

    assert [job["rows_done"] for job in await eventually(ran, within=30, every=0.2)] == [5]
    await asyncio.sleep(5)  # both looked again
    (run,) = await runs(client, id)
    shown = (await client.get(f"{PATH}/{id}")).json()
    assert (run["key"], shown["missed"]) == (f"{hour:%Y-%m-%dT%H:%M}Z", 3)
    assert datetime.fromisoformat(shown["next_at"]) == hour + timedelta(hours=1)
    assert len(await batches(client, id)) == 1


async def test_a_schedule_is_listed_paused_and_deleted_and_its_batches_stay(
    stage: Stage, client: httpx.AsyncClient, folder: Path
) -> None:
    id = (await client.post(PATH, json=ARRIVING)).json()["id"]
    assert [each["id"] for each in (await client.get(PATH)).json()["items"]] == [id]
    assert (await client.post(f"{PATH}/{id}/pause")).json()["state"] == "paused"
    drop(folder, "a.parquet", 4)
    stage.start("batches")
    await asyncio.sleep(6)
    assert await runs(client, id) == []
    assert (await client.post(f"{PATH}/{id}/resume")).json()["state"] == "active"
    await eventually(lambda: batches(client, id), within=30, every=0.2)
    assert (await client.delete(f"{PATH}/{id}")).status_code == 204
    assert (await client.get(f"{PATH}/{id}")).status_code == 404
    assert len(await batches(client, id)) == 1
    stranger = {"Authorization": f"Bearer {stage.house.token('other-unit', ('wealth',), 'engineer')}"}
    other = (await client.post(PATH, json=ARRIVING)).json()["id"]
    assert (await client.get(f"{PATH}/{other}", headers=stranger)).status_code == 404
    assert (await client.delete(f"{PATH}/{other}", headers=stranger)).status_code == 404


@pytest.mark.parametrize(("change", "field"), [
    ({"cron": "61 * * * *"}, "cron"),
    ({"cron": "now and then"}, "cron"),
    ({"cron": "* * * * * *"}, "cron"),
    ({"input": {"connection": "nowhere", "path": "a"}}, "input.connection"),
    ({"input": {"connection": "rows", "path": "../a"}}, "input.path"),
    ({"output": {"connection": "theirs", "path": "a"}}, "output.connection"),
    ({"endpoint": ""}, "endpoint"),
    ({"cron": None, "input": None, "arrives": {"connection": "rows", "prefix": "../in"}}, "arrives.prefix"),
    ({"cron": None, "input": None, "arrives": {"connection": "theirs", "prefix": "in"}}, "arrives.connection"),
    ({"cron": None, "input": None, "arrives": {"connection": "rows", "prefix": "in"},
      "output": {"connection": "rows", "path": "in/{id}.csv"}}, "output.path"),
    ({"version": 7}, "version"), ({"timezone": "Atlantis/Capital"}, "timezone"), ({"timezone": "../etc"}, "timezone"),
    ({"hourly": True}, "hourly"),
])  # fmt: skip
async def test_an_order_that_cannot_be_followed_is_refused_by_the_field(
    client: httpx.AsyncClient, folder: Path, change: dict[str, Any], field: str
) -> None:
    answer = await client.post(PATH, json=HOURLY | change)
    assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text


def test_of_the_times_that_passed_the_last_is_due_and_the_others_were_missed() -> None:
    first = datetime(2026, 3, 1, 12, tzinfo=UTC)
    order = daily("*/10 * * * *", "UTC")
    assert due(order, first, first) == (first, 0)
    assert due(order, first, first + timedelta(minutes=35)) == (first + timedelta(minutes=30), 3)


def test_six_in_the_morning_is_six_by_the_clock_of_the_place_in_summer_too() -> None:
    order = daily("0 6 * * *", "Europe/Berlin")
    winter, summer = datetime(2026, 3, 28, 5, tzinfo=UTC), datetime(2026, 3, 29, 4, tzinfo=UTC)
    assert order.next_at(winter - timedelta(seconds=1)) == winter and order.next_at(winter) == summer
    assert due(order, winter, summer) == (summer, 1)


def test_a_file_of_a_day_is_of_the_day_where_its_place_is() -> None:
    order = daily("30 0 * * *", "Asia/Tokyo")
    assert order.next_at(datetime(2026, 3, 1, 12, tzinfo=UTC)) == datetime(2026, 3, 1, 15, 30, tzinfo=UTC)
    assert order.input_at(datetime(2026, 3, 1, 15, 30, tzinfo=UTC)).path == "2026-03-02.parquet"


def daily(cron: str, timezone: str) -> Order:
    return Order.model_validate(
        {"endpoint": "loans", "cron": cron, "timezone": timezone,
         "input": {"connection": "rows", "path": "{date}.parquet"}}
    )  # fmt: skip
