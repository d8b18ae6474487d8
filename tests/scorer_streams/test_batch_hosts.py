"""Batches on two scorer hosts: what lies on one of them alone waits for it, and no host keeps what is of no use."""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from contracts import Service
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.testing import eventually
from services.scorer.batches.inputs import Inputs
from services.scorer.batches.serving import Serving
from services.scorer.batches.sweeping import Sweeping
from services.scorer.batches.usecases import Batches
from services.scorer.replica import name_of
from services.scorer.settings import ScorerSettings
from tests.scorer.making import NUMBERS, classifier

from .conftest import Stage
from .test_batch_cancel import cancel, job_of
from .test_batches import done, places, serving_in_process, submit

SECRET = b"age,income,debt\n1,424242.125,3\n"
HIDDEN = NUMBERS.model_copy(
    update={"columns": tuple(c.model_copy(update={"sensitive": c.name == "income"}) for c in NUMBERS.columns)}
)


@pytest.fixture
def hosts(stage: Stage, service_url: Callable[[Service], str], tmp_path: Path) -> tuple[ScorerSettings, ScorerSettings]:
    """Two hosts that serve one endpoint with a sensitive column, with one object store."""
    stage.database = service_url("scorer")
    stage.serve("loans", classifier(), HIDDEN)
    here = stage.house.settings.model_copy(update={"objects": stage.house.settings.objects_url})
    shutil.copytree(here.home, tmp_path / "other", ignore=shutil.ignore_patterns("objects"))
    return here, here.model_copy(update={"home": tmp_path / "other"})


@asynccontextmanager
async def api(stage: Stage, settings: ScorerSettings, db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A host's HTTP side of batches."""
    objects = Objects(settings)
    batches = Batches(db, objects, Inputs.of(settings, objects), Serving(settings).allowed, places(settings))
    authorization = {"Authorization": f"Bearer {stage.house.token()}"}
    async with serving_in_process(settings, db, batches, authorization) as client:
        yield client


def start(stage: Stage, settings: ScorerSettings) -> None:
    """The process that does a host's batches."""
    stage.start(
        "batches", FAIRLEAD_HOME=str(settings.home), FAIRLEAD_OBJECTS=settings.objects_url, FAIRLEAD_BATCH_PROCESSES="1"
    )


def left(settings: ScorerSettings) -> list[Path]:
    """What a host has of inputs."""
    return [path for path in (settings.run_folder / "batches").rglob("*") if path.is_file()]


async def test_a_batch_with_sensitive_columns_waits_for_the_host_that_has_its_file(
    stage: Stage, hosts: tuple[ScorerSettings, ScorerSettings], service_db: Callable[[Service], Database]
) -> None:
    first, second = hosts
    async with api(stage, first, service_db("scorer")) as one, api(stage, second, service_db("scorer")) as other:
        waiting = (await submit(one, SECRET, "rows.csv")).json()
        taken = (await submit(other, SECRET, "rows.csv")).json()
        assert (waiting["host"], taken["host"]) == (name_of(first), name_of(second)) and len(left(first)) == 1
        start(stage, second)
        assert (await done(one, taken["id"]))["state"] == "done", "it came after the other one in the line"
        job = await job_of(other, waiting["id"])
        assert job["state"] == "queued" and name_of(first) in job["reason"] and len(left(first)) == 1
        start(stage, first)
        job = await done(other, waiting["id"])
        assert (job["state"], job["rows_done"], job["reason"]) == ("done", 1, None)
    assert not left(first) and not left(second)


async def test_a_batch_that_is_cancelled_through_another_host_leaves_no_file(
    stage: Stage, hosts: tuple[ScorerSettings, ScorerSettings], service_db: Callable[[Service], Database]
) -> None:
    first, second = hosts
    async with api(stage, first, service_db("scorer")) as one, api(stage, second, service_db("scorer")) as other:
        kept, ended = [(await submit(one, SECRET, "rows.csv")).json()["id"] for _ in range(2)]
        assert (await cancel(other, ended)).json()["state"] == "cancelled"
    await Sweeping(service_db("scorer"), Inputs.of(first, Objects(first)), Progress()).once()
    assert [path.stem for path in left(first)] == [kept]


async def test_what_a_killed_host_was_taking_in_is_deleted_when_it_comes_back(
    stage: Stage, hosts: tuple[ScorerSettings, ScorerSettings], service_db: Callable[[Service], Database]
) -> None:
    first, _ = hosts
    inputs = Inputs.of(first, Objects(first))
    stage.house.home.joinpath("upload").write_bytes(SECRET)
    await inputs.keep(uuid4(), stage.house.home / "upload", private=True)  # and then, before it is in line, a kill
    half = inputs.folder / "upload-x7"
    half.mkdir()
    (half / "upload").write_bytes(SECRET)
    for path in (*left(first), half):
        os.utime(path, (1, 1))
    start(stage, first)
    await eventually(lambda: not left(first), within=60)


async def test_a_file_on_its_way_into_the_line_is_left_alone_until_that_failed(
    stage: Stage, hosts: tuple[ScorerSettings, ScorerSettings], service_db: Callable[[Service], Database]
) -> None:
    first, _ = hosts
    inputs, id, upload = Inputs.of(first, Objects(first)), uuid4(), stage.house.home / "upload"
    upload.write_bytes(SECRET)
    await inputs.keep(id, upload, private=True)
    sweeping = Sweeping(service_db("scorer"), inputs, Progress())
    await sweeping.once()
    assert len(left(first)) == 1
    inputs.failed(id)
    await sweeping.once()
    assert not left(first)


async def test_a_host_under_another_name_goes_on_with_what_lies_on_it(
    stage: Stage, hosts: tuple[ScorerSettings, ScorerSettings], service_db: Callable[[Service], Database]
) -> None:
    first, _ = hosts
    async with api(stage, first, service_db("scorer")) as client:
        id = (await submit(client, SECRET, "rows.csv")).json()["id"]
        renamed = first.model_copy(update={"replica": "scorer-new"})
        await Sweeping(service_db("scorer"), Inputs.of(renamed, Objects(first)), Progress()).once()
        job: dict[str, Any] = await job_of(client, id)
        assert job["host"] == "scorer-new" and len(left(first)) == 1
