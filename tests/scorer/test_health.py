"""What the processes that nobody can ask say of their parts is shown by any worker's readiness."""

import asyncio
from pathlib import Path

import orjson
import pytest

from services.kit.health import Progress
from services.kit.testing import eventually
from services.scorer import health
from services.scorer.health import Told, tell_progress

from .living import Worker
from .making import House


async def test_a_part_that_does_not_get_on_is_told_while_it_lasts(tmp_path: Path) -> None:
    progress, told = Progress(), Told(tmp_path, "batches")
    assert told.delays() == {"process batches": "has not been heard of"}
    progress.expect("outbox", grace_s=0)
    saying = asyncio.create_task(tell_progress(tmp_path, "batches", progress))
    await eventually(lambda: told.delays() == {"batches: outbox": "has not started"})
    progress.beat("outbox")
    await eventually(lambda: told.delays() == {})
    saying.cancel()


async def test_a_process_that_falls_silent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(tmp_path, "streams")
    saying = asyncio.create_task(tell_progress(tmp_path, "streams", Progress()))
    await eventually(lambda: told.delays() == {})
    saying.cancel()
    monkeypatch.setattr(health, "_QUIET_S", 0.1)
    await eventually(lambda: told.delays() == {"process streams": "has not been heard of"})


def test_readiness_shows_it_and_answers_go_on(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    with Worker(house) as worker:
        worker.deploy()
        path = health.path_of(house.settings.run_folder, "streams")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps({"pid": 1, "at": 4e9, "problems": {"stream x": "Kafka does not answer"}}))
        worker.wait(lambda: worker.get("/readyz").status_code == 200)
        delayed = worker.get("/readyz").json()["delayed"]
        assert delayed["streams: stream x"] == "Kafka does not answer"
        assert delayed["process batches"] == "has not been heard of"
