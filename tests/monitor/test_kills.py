"""C2, small: the monitor is killed while it counts, and counts exactly."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import numpy as np

from contracts import Service
from deploy.embedded.standalone import free_home
from services.kit.context import Caller, Context, use
from services.kit.db import Database
from services.kit.errors import NotFound
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.kit.signing import canonical
from services.kit.testing import eventually
from services.monitor.settings import MonitorSettings
from services.monitor.usecases.reading import Reading
from services.monitor.usecases.serving import Serving

from . import streams
from .killing import victim
from .saying import aligned, deployment, fresh, logged, say_deployment, say_logged, spread

ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))


async def test_counts_are_exact_and_a_departure_is_found_once_however_often_it_is_killed(
    monitor_settings: MonitorSettings, speaker: Callable[[Service], Settings], service_db: Callable[[Service], Database]
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(21)), aligned(120)
    digest = await Objects(monitor_settings).put(canonical(streams.profile(np.random.default_rng(11))))
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), digest))
    rows = np.concatenate([world.rows(4_000), world.rows(4_000, "shift")])
    said = [logged(endpoint, part, seq, at) for seq, (part, at) in enumerate(spread(rows, 10, start, 80))]
    reading = Reading(service_db("monitor"))

    async def counted() -> int:
        with use(ENGINEER):
            try:
                return sum(w.window.rows for w in await reading.windows(endpoint, None, 1_000))
            except NotFound:
                return 0

    async def all_counted() -> bool:
        return await counted() >= len(rows)

    async def more_than(least: int) -> bool:
        return await counted() > least

    with victim("monitor", monitor_settings, free_home(monitor_settings.home).port) as monitor:
        for place in range(0, len(said), 200):
            await say_logged(speaker("scorer"), said[max(0, place - 50) : place + 200])
            await asyncio.sleep(3.0 + 0.4 * (place // 200))
            monitor.kill()
            monitor.start()
        assert await eventually(all_counted, within=60, every=0.3)
        # What repeats could do wrong is done once a last record is counted.
        await say_logged(speaker("scorer"), [logged(endpoint, rows[-10:], len(said), start + timedelta(seconds=79))])
        await eventually(lambda: more_than(len(rows)), within=60, every=0.3)
        assert await counted() == len(rows) + 10
        with use(ENGINEER):
            standing = await reading.standing(endpoint)
            windows = await reading.windows(endpoint, None, 1_000)
            whole = (await Serving(monitor_settings, service_db("monitor")).service(endpoint, "1h")).whole
    assert (whole.rows, whole.inferences) == (len(rows) + 10, len(said) + 1)
    assert [finding.kind for finding in standing.findings] == ["alarm"]
    assert abs((standing.findings[0].event.since - start - timedelta(seconds=40)).total_seconds()) <= 10
    assert sum(window.inferences for window in windows) == len(said) + 1
