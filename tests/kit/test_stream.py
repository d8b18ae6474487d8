"""Records in batches, their offsets committed with the state: exact through restarts, stalls and two workers."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import text

from contracts import OutcomeReported, ReplicaReported, Service
from services.kit.cloudevents import headers
from services.kit.compacted import CompactedTopic
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.ids import now
from services.kit.kafka import Connection
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.stream import BatchConsumer, Moved, PartitionBatch
from services.kit.testing import eventually

from .test_bus import running

ServiceDb = Callable[[Service], Database]
ServiceSettings = Callable[[Service], Settings]


async def produce(settings: Settings, run: str, count: int) -> None:
    """Outcomes whose ids say which test run they belong to."""
    context = Context(system("recorder", "retail"))
    async with Producer(settings) as producer:
        await producer.send_all([
            (
                "outcome.reported", f"{run}-{n}".encode(), OutcomeReported(inference_id=f"{run}-{n}", label=1.0).to_json(),
                headers(OutcomeReported, "recorder", f"{run}-{n}", context, "retail"),
            )
            for n in range(count)
        ])  # fmt: skip


class Counter:
    """Counts the records of one run in a table, in the transaction that moves the offset."""

    def __init__(self, run: str) -> None:
        self.run = run.encode()
        self.calls = 0
        self.stop_after: int | None = None

    async def handle(self, tx: Tx, batch: PartitionBatch) -> None:
        self.calls += 1
        mine = [r for r in batch.records if (r.key or b"").startswith(self.run)]
        for record in mine:
            insert = "INSERT INTO inbox (event) VALUES (:event)"  # a repeat would break the primary key
            await tx.session.execute(text(insert), {"event": f"{batch.partition}/{record.offset}"})
        if self.stop_after is not None and self.calls > self.stop_after:
            raise ZeroDivisionError("killed before the commit")


async def counted(db: Database) -> int:
    async with db.chassis() as session:
        return int((await session.execute(text("SELECT count(*) FROM inbox"))).scalar() or 0)


def consumer(settings: Settings, db: Database, counter: Counter, group: str) -> BatchConsumer:
    return BatchConsumer(settings, db, ["outcome.reported"], group, counter.handle, max_records=50)


async def test_every_record_is_counted_once_through_crashes(
    service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    group = f"recorder.{run}"
    await produce(outsider, run, 400)
    for stop_after in (1, 3, 5):
        counter = Counter(run)
        counter.stop_after = stop_after
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(consumer(settings, db, counter, group).run(), 30)
    async with running(consumer(settings, db, Counter(run), group).run()):
        await eventually(lambda: _is(db, 400), within=30)
    assert await counted(db) == 400


async def _is(db: Database, expected: int) -> bool:
    return await counted(db) == expected


async def test_two_workers_share_the_partitions_and_count_once(
    service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    group = f"recorder.{run}"
    async with running(consumer(settings, db, Counter(run), group).run()):
        await produce(outsider, run, 200)
        async with running(consumer(settings, db, Counter(run), group).run()):
            await produce(outsider, run, 200)
            await eventually(lambda: _is(db, 400), within=40)
        await produce(outsider, run, 100)
        await eventually(lambda: _is(db, 500), within=40)


async def test_workers_that_come_and_go_skip_nothing(
    service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    group = f"recorder.{run}"
    async with running(consumer(settings, db, Counter(run), group).run()):
        for turn in range(1, 5):
            await produce(outsider, run, 150)
            async with running(consumer(settings, db, Counter(run), group).run()):
                await produce(outsider, run, 150)
                await eventually(lambda before=turn * 300 - 150: _more_than(db, before), within=40)
        await eventually(lambda: _is(db, 1200), within=40)


async def _more_than(db: Database, expected: int) -> bool:
    return await counted(db) > expected


async def test_the_stored_place_counts_whatever_the_group_committed(
    service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    """As after a database was restored from its backup: Kafka's group is further on than the state."""
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    group = f"recorder.{run}"
    await produce(outsider, run, 200)
    ahead = AIOKafkaConsumer(
        "outcome.reported", **Connection.read(settings.kafka_properties).aiokafka(), group_id=group,
        enable_auto_commit=False,
    )  # fmt: skip
    await ahead.start()
    try:
        await eventually(ahead.assignment, within=20)
        await ahead.commit(await ahead.end_offsets(list(ahead.assignment())))
    finally:
        await ahead.stop()
    async with running(consumer(settings, db, Counter(run), group).run()):
        await eventually(lambda: _is(db, 200), within=30)


async def test_a_worker_that_lost_its_partition_cannot_write(
    service_db: ServiceDb, settings_of: ServiceSettings
) -> None:
    db = service_db("recorder")
    late = consumer(settings_of("recorder"), db, Counter("x"), "recorder.fence")
    batch = PartitionBatch("outcome.reported", 0, 0, 10, 10, [])
    with use(Context(system("recorder"))):
        async with db.transaction() as tx:
            await late._advance(tx.session, batch)
        with pytest.raises(Moved):
            async with db.transaction() as tx:
                await late._advance(tx.session, batch)


async def test_compacted_state_is_read_from_its_start_by_everyone(settings_of: ServiceSettings) -> None:
    endpoint = f"e-{uuid4().hex[:8]}"
    context = Context(system("scorer", "retail"))

    def report(revision: int) -> tuple[str, bytes, bytes, list[tuple[str, bytes]]]:
        event = ReplicaReported(
            endpoint=endpoint, replica="r", revision=revision, state="ready", slots=1, reported_at=now()
        )
        about = headers(ReplicaReported, "scorer", event.key, context, "retail")
        return ReplicaReported.topic.name, event.key.encode(), event.to_json(), about

    async def newest(topic: CompactedTopic[ReplicaReported], seen: dict[str, int]) -> None:
        async for change in topic.changes():
            if change.event and change.event.endpoint == endpoint:
                seen[change.key] = change.event.revision

    async with Producer(settings_of("scorer")) as producer:
        await producer.send_all([report(1), report(2)])
        readers = [(CompactedTopic(settings_of("deployer"), ReplicaReported), dict[str, int]()) for _ in range(2)]
        async with running(*(newest(topic, seen) for topic, seen in readers)):
            for topic, seen in readers:
                await asyncio.wait_for(topic.caught_up.wait(), 20)
                assert seen == {f"{endpoint}/r": 2}
            await producer.send_all([report(3)])
            await eventually(lambda: all(seen == {f"{endpoint}/r": 3} for _, seen in readers), within=20)
