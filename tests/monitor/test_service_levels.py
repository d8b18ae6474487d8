"""Service levels on real Kafka and PostgreSQL: counted once, shown to their unit, kept by hour when they are old."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import orjson
from sqlalchemy import text

from contracts import Service, UsageReported, UseCaseRegistered
from fairlead import Service as Levels
from services.kit.bus import Bus
from services.kit.cloudevents import headers
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.producer import Producer
from services.kit.service import application, close
from services.kit.settings import Settings
from services.kit.testing import eventually
from services.kit.testing import running as beside
from services.monitor.app import build
from services.monitor.domain.service.slots import Counts, Place, together
from services.monitor.domain.service.spans import Span, minutes_end
from services.monitor.settings import MonitorSettings
from services.monitor.store import slots

from . import streams
from .counting import Answered, counted
from .saying import EXAMPLES, aligned, deployment, fresh, logged, say_deployment, say_logged

Speaker = Callable[[Service], Settings]
Ask = Callable[..., Any]


@asynccontextmanager
async def running(settings: MonitorSettings) -> AsyncIterator[Ask]:
    """The whole monitor; `await ask(path, who)` of its HTTP."""
    parts = build(settings)
    assert parts.db
    bus, app = Bus(settings, "monitor", parts.db, parts.subscriptions, Progress()), application(parts)

    async def ask(path: str, who: str = "engineer") -> httpx.Response:
        token = (settings.home / "tokens" / f"{who}.jwt").read_text().strip()
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://monitor") as client:
            return await client.get(f"/v1/monitors/{path}", headers={"authorization": f"Bearer {token}"})

    try:
        async with beside(*(job() for job in parts.jobs), bus.run()):
            yield ask
    finally:
        await close(parts)


def promised(use_case: str, **sla: float) -> UseCaseRegistered:
    said: dict[str, Any] = orjson.loads((EXAMPLES / "usecase.registered.json").read_bytes())["data"]
    return UseCaseRegistered.model_validate(said | {"use_case": use_case, "sla": sla})


def used(endpoint: str, faults: int | None, *, version: int = 1) -> UsageReported:
    until = datetime.now(UTC)
    return UsageReported(
        endpoint=endpoint, use_case="benefits", model="census-employment", version=version, replica="scorer-1",
        since=until - timedelta(minutes=1), until=until, inferences=100, rows=100, refused=7, faults=faults, bytes_in=1,
        bytes_out=1, busy_s=1.0, model_cpu_s=3.0, serving_cpu_s=1.0, memory_bytes=600_000_000,
    )  # fmt: skip


async def say(speaker: Speaker, *events: UsageReported | UseCaseRegistered) -> None:
    for event in events:
        who: Service = "scorer" if isinstance(event, UsageReported) else "catalog"
        about = headers(type(event), who, event.key, Context(system(who)), "retail")
        async with Producer(speaker(who)) as producer:
            await producer.send_all([(event.topic.name, event.key.encode(), event.to_json(), about)])


async def test_an_endpoint_is_held_against_what_its_use_case_promises(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint, world, start = fresh(), streams.World(np.random.default_rng(4)), aligned(90)
    settings = monitor_settings.model_copy(
        update={"price_cpu_second": 0.001, "price_gb_hour": 0.1, "price_currency": "EUR"}
    )
    event = deployment(endpoint, streams.schema(), None)
    records = [logged(endpoint, world.rows(2), seq, start + timedelta(seconds=seq / 10)) for seq in range(1, 101)]
    records[0]["latency_ms"] = records[1]["latency_ms"] = 900.0
    batch = logged(endpoint, world.rows(500), 101, start, mode="batch") | {"latency_ms": 5_000.0}
    shadow = logged(endpoint, world.rows(1), 102, start) | {"shadow_of": "x", "version": 2}
    await say_deployment(speaker("deployer"), event)
    path = f"{endpoint}/service"
    async with running(settings) as ask:
        await say(speaker, promised(event.use_case, latency_p99_ms=20.0, availability=0.9), used(endpoint, 5))
        await say_logged(speaker("scorer"), [*records, batch, shadow])
        await say_logged(speaker("scorer"), records)  # a forwarder that was killed

        async def told() -> Any:
            found = (await ask(path)).json()
            there = found.get("objectives") and found["total"]["inferences"] == 101 and found["total"]["usage"]
            return found if there else None

        found = await eventually(told, within=60)
        total, (version,) = found["total"], found["versions"]
        assert {name: version[name] for name in total} == total and version["version"] == 1
        assert (total["requests"], total["rows"], total["by_mode"]) == (100, 700, {"rest": 100, "batch": 1})
        assert (total["refused"], total["failed"]) == (2, 5) and abs(total["availability"] - 100 / 105) < 1e-9
        assert total["latency"]["p50_ms"] < 1 < 800 < total["latency"]["p99_ms"]
        latency, availability = total["budgets"]["latency"], total["budgets"]["availability"]
        assert (latency["objective"], latency["good"], latency["spent"]) == (0.99, 0.98, 2)
        assert abs(latency["burn_rate"] - 2) < 1e-9 and abs(latency["left"] + 1) < 1e-9
        assert abs(availability["allowed"] - 10.5) < 1e-9
        assert availability["spent"] == 5 and availability["left"] > 5
        assert abs(total["cost"]["total"] - (0.004 + 0.1 * 0.6 / 60)) < 1e-9 and total["cost"]["currency"] == "EUR"
        assert abs(total["cost"]["per_1000_inferences"] - 0.05) < 1e-9
        assert Levels.model_validate(found).versions[0].budgets.latency is not None, "as clients read it"
        assert found["last_hour"] == total["budgets"] and found["alarms"] == [] and total["unknown"] == {}

        assert (await ask(path, "other-unit")).status_code == 404
        assert (await ask("nobody/service")).status_code == 404
        assert (await ask(path, "application")).status_code == 403
        for span in ("31d", "yesterday", "0h", "1", "h" * 30, ""):
            refused = await ask(f"{path}?span={span}")
            assert refused.status_code == 422 and "span" in refused.text, span
        assert (await ask(f"{path}?span=30d")).json()["total"]["inferences"] == 101

        slow = [logged(endpoint, world.rows(1), seq, start + timedelta(seconds=30)) for seq in range(103, 143)]
        await say_logged(speaker("scorer"), [record | {"latency_ms": 300.0} for record in slow])

        async def alarmed() -> Any:
            return (await ask(path)).json()["alarms"]

        (alarm,) = await eventually(alarmed, within=60)
        assert (alarm["objective"], alarm["severity"]) == ("latency", "critical") and "42 of 140" in alarm["detail"]


async def test_minutes_become_hours_and_nothing_is_lost(service_db: Callable[[Service], Database]) -> None:
    db, now = service_db("monitor"), datetime.now(UTC)
    places = [Place("credit", "retail", "census", version, mode) for version in (1, 2) for mode in ("rest", "batch")]
    some = [
        Answered(places[n % 4], (now - timedelta(minutes=n)).timestamp(), 3, 1.0 + n % 7) for n in range(600)
    ]  # fmt: skip
    span = Span(now - timedelta(days=1), now + timedelta(minutes=1))

    async def read() -> tuple[dict[Place, Counts], int]:
        async with db.reading() as session:
            found = await slots.read(session, "credit", span)
            kept = await session.scalar(text("SELECT count(*) FROM slot"))
        return {place: together(slot.counts for slot in found if slot.place == place) for place in places}, kept or 0

    with use(Context(system("monitor"))):
        for partition in (0, 1):  # in two partitions and several batches
            for at in range(0, 600, 100):
                async with db.transaction() as tx:
                    await slots.add(tx.session, partition, counted(some[at : at + 100]))
        before, minutes = await read()
        for _ in range(2):
            async with db.transaction() as tx:
                await slots.tidy(tx.session, minutes_end(now), timedelta(days=30))
            # A record that comes hours late is counted in its minute, then in its hour.
            async with db.transaction() as tx:
                await slots.add(tx.session, 3, counted(some[-1:]))
        async with db.transaction() as tx:
            await slots.tidy(tx.session, minutes_end(now), timedelta(days=30))
        after, hours = await read()
        late = together(counted(some[-1:] * 2).values())
        last = some[-1].place
        assert after == before | {last: before[last].merge(late)}
        assert sum(counts.inferences for counts in before.values()) == 1200 and minutes > 1000 and hours < 1000
        async with db.transaction() as tx:
            await slots.tidy(tx.session, minutes_end(now), timedelta(hours=-1))
        assert (await read())[1] == 0
