"""What versions used, as scorers said it, for whoever asks what a model costs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from contracts import Service, UsageReported
from services.kit.bus import Bus
from services.kit.cloudevents import headers
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.errors import NotFound
from services.kit.health import Progress
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.testing import eventually
from services.kit.testing import running as beside
from services.monitor import store
from services.monitor.handlers import subscriptions
from services.monitor.settings import MonitorSettings
from services.monitor.store import usage
from services.monitor.usecases.attributing import Attributing
from services.monitor.usecases.forgetting import Forgetting
from services.monitor.usecases.metering import Metering
from services.monitor.usecases.reading import Reading
from services.monitor.usecases.serving import Serving

from . import streams
from .saying import deployment, fresh

START = datetime.now(UTC).replace(microsecond=0)


def report(endpoint: str, hour: int, cpu_s: float) -> UsageReported:
    since = START + timedelta(hours=hour)
    return UsageReported(
        endpoint=endpoint, use_case="benefits", model="census-employment", version=1, replica="scorer-1", since=since,
        until=since + timedelta(minutes=1), inferences=10, rows=10, refused=0, bytes_in=1, bytes_out=1, busy_s=1.0,
        model_cpu_s=cpu_s, serving_cpu_s=0.5, memory_bytes=1,
    )  # fmt: skip


async def say(settings: Settings, unit: str, *events: UsageReported) -> None:
    async with Producer(settings) as producer:
        await producer.send_all([
            (event.topic.name, event.endpoint.encode(), event.to_json(),
             headers(UsageReported, "scorer", event.endpoint, Context(system("scorer")), unit))
            for event in events
        ])  # fmt: skip


async def test_usage_is_kept_by_period_and_shown_to_its_unit_alone(
    monitor_settings: MonitorSettings, speaker: Callable[[Service], Settings], service_db: Callable[[Service], Database]
) -> None:
    db, endpoint = service_db("monitor"), fresh()
    reading = Reading(db)
    with use(Context(system("monitor"))):
        async with db.transaction() as tx:
            await store.save_desired(tx.session, deployment(endpoint, streams.schema(), None))
    bus = Bus(
        monitor_settings,
        "monitor",
        db,
        subscriptions(Metering(db), Serving(monitor_settings, db), Forgetting(db), Attributing(db)),
        Progress(),
    )

    def shown(unit: str) -> Context:
        return Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({unit})))

    async def last() -> bool:
        with use(shown("retail")):
            return len(found := await reading.usage(endpoint, None, 10)) == 2 and found[1].model_cpu_s == 7.0

    async with beside(bus.run()):
        # The first period is said again, with more in it: the scorer's host was killed before it noted the first.
        await say(speaker("scorer"), "retail", *(report(endpoint, m, cpu) for m, cpu in ((0, 3.0), (0, 7.0), (1, 2.0))))
        await eventually(last, within=30)
    with use(shown("retail")):
        newest = await reading.usage(endpoint, None, 1)
        place = (newest[0].since, newest[0].model, newest[0].version, newest[0].replica)
        assert [event.model_cpu_s for event in await reading.usage(endpoint, place, 10)] == [7.0]
    with use(shown("wealth")), pytest.raises(NotFound):
        await reading.usage(endpoint, None, 10)
    with use(Context(system("monitor"))):
        async with db.transaction() as tx:
            await usage.tidy(tx.session, timedelta(seconds=-50))
            assert [event.model_cpu_s for event in await usage.reports(tx.session, endpoint, None, 10)] == [2.0]
