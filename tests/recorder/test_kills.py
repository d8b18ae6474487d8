"""The recorder is killed while it writes, merges and erases: every row that is to be there is in the files once."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from contracts import Service
from deploy.embedded.standalone import free_home
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.kit.testing import eventually
from services.recorder.files import Files
from services.recorder.settings import RecorderSettings
from services.recorder.usecases.erasing import Asked, Erasing
from services.recorder.usecases.keys import entity_key
from services.recorder.usecases.remaining import Kept
from services.recorder.usecases.rewriting import Rewriting
from services.recorder.usecases.snapshots import Snapshots
from services.recorder.usecases.upkeep import Upkeep
from services.recorder.usecases.withdrawing import Withdrawing
from tests.monitor.killing import victim
from tests.monitor.saying import say_logged

from .house import OFFICER
from .test_handlers import files, outcome_rows, records, report, served


async def test_every_row_is_in_the_files_once_however_often_it_is_killed(
    recorder_settings: RecorderSettings, speaker: Callable[[Service], Settings]
) -> None:
    endpoint = await served(speaker)
    said = records(endpoint, 900, rows=2)
    with victim("recorder", recorder_settings, free_home(recorder_settings.home).port) as recorder:
        for place in range(0, len(said), 300):
            await say_logged(speaker("scorer"), said[max(0, place - 40) : place + 300])
            await asyncio.sleep(3.0 + 0.3 * (place // 300))
            recorder.kill()
            recorder.start()
        assert await eventually(lambda: _rows(recorder_settings, endpoint) >= 1_800, within=60, every=0.3)
        await asyncio.sleep(2.0)
    table = files(recorder_settings, endpoint)
    keys = set(zip(table["inference_id"].to_pylist(), table["row"].to_pylist(), strict=True))
    assert table.num_rows == len(keys) == 1_800


async def test_every_outcome_is_in_the_files_once_however_often_it_is_killed(
    recorder_settings: RecorderSettings, speaker: Callable[[Service], Settings], application: Settings
) -> None:
    endpoint = await served(speaker)
    said = records(endpoint, 300, rows=2)
    ids = [record["inference_id"] for record in said]

    def known(so_many: int) -> bool:
        return len(outcome_rows(recorder_settings, endpoint)) >= so_many

    with victim("recorder", recorder_settings, free_home(recorder_settings.home).port) as recorder:
        await say_logged(speaker("scorer"), said)
        for number, label in enumerate((0.0, 1.0), 1):  # what was said first, and a correction
            for part in range(3):
                some = [{"inference_id": id, "row": 1, "label": label} for id in ids[part::3]]
                await report(application, *some, *some)
                await asyncio.sleep(2.0 + 0.3 * (number + part))
                recorder.kill()
                recorder.start()
            assert await eventually(lambda so_many=300 * number: known(so_many), within=90, every=0.3)
        await asyncio.sleep(2.0)
    found = sorted((r["inference_id"], r["revision"], r["label"]) for r in outcome_rows(recorder_settings, endpoint))
    assert found == sorted((id, revision, label) for id in ids for revision, label in ((1, 0.0), (2, 1.0)))


def _rows(settings: RecorderSettings, endpoint: str) -> int:
    return files(settings, endpoint).num_rows if settings.inferences.exists() else 0


async def _lives(port: int) -> bool:
    """Whether it came up again, so that it can be told to end."""
    url = Settings(port=port).url("recorder")
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{url}/livez")).status_code == 200
    except httpx.TransportError:
        return False


def _erasing(settings: RecorderSettings, db: Database) -> Erasing:
    store, objects = Files(settings.recorded), Objects(settings)
    upkeep, snapshots = Upkeep(db, store, objects), Snapshots(db, store, objects, 1_000)
    rewriting = Rewriting(db, store, upkeep)
    return Erasing(db, rewriting, Withdrawing(db, rewriting), upkeep, snapshots, entity_key(settings.keys), Kept())


@pytest.mark.parametrize("delay_s", [2.0, 2.6])
async def test_past_hours_are_merged_and_who_asks_is_erased_however_often_it_is_killed(
    recorder_settings: RecorderSettings, speaker: Callable[[Service], Settings], delay_s: float
) -> None:
    endpoint = await served(speaker)
    said = records(endpoint, 600, rows=2)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    somebody = f"somebody-at-{endpoint}"
    for number, record in enumerate(said):
        record["received_at"] = (hour + timedelta(seconds=number)).isoformat()
        record["entity"] = somebody if number % 3 == 0 else None
    db = Database(recorder_settings.service_database, "recorder")
    erasing = _erasing(recorder_settings, db)
    port = free_home(recorder_settings.home).port
    with use(Context(system("recorder"))), victim("recorder", recorder_settings, port) as recorder:
        for place in range(0, len(said), 100):
            await say_logged(speaker("scorer"), said[place : place + 100])
            await asyncio.sleep(delay_s + 0.2 * (place // 100))
            recorder.kill()
            recorder.start()
        assert await eventually(lambda: _rows(recorder_settings, endpoint) >= 1_200, within=60, every=0.3)
        asked = await erasing.ask(OFFICER, Asked(somebody, None, None, "as the law says"))
        for times in range(3):
            await asyncio.sleep(delay_s + 0.3 * times)
            recorder.kill()
            recorder.start()

        async def done() -> bool:
            found, left = await erasing.look(asked.id)
            return found.state == "done" and left == 0 and found.decisions == 200

        assert await eventually(done, within=60, every=0.5)
        merged = lambda: [*recorder_settings.inferences.rglob("m-*.parquet")]  # noqa: E731
        assert await eventually(merged, within=60, every=0.5)
        assert await eventually(lambda: _lives(port), within=60, every=0.5)
    await db.close()
    table = files(recorder_settings, endpoint)
    keys = set(zip(table["inference_id"].to_pylist(), table["row"].to_pylist(), strict=True))
    assert table.num_rows == len(keys) == 800 and somebody not in table["entity"].to_pylist()
