"""The recorder is killed while it writes: every row is in the files once."""

import asyncio
from collections.abc import Callable

from contracts import Service
from deploy.embedded.standalone import free_home
from services.kit.settings import Settings
from services.kit.testing import eventually
from services.recorder.settings import RecorderSettings
from tests.monitor.killing import victim
from tests.monitor.saying import say_logged

from .test_handlers import files, records, served


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


def _rows(settings: RecorderSettings, endpoint: str) -> int:
    return files(settings, endpoint).num_rows if settings.inferences.exists() else 0
