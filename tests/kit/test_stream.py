"""Records in batches, their offsets committed with the state: exact through restarts, stalls and two workers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.record.util import calc_crc32c
from sqlalchemy import text

from contracts import OutcomeReported, ReplicaReported, Service
from services.kit import deadletters
from services.kit.burial import Burial
from services.kit.cloudevents import headers
from services.kit.compacted import CompactedTopic
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.ids import now
from services.kit.kafka import Connection
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.stream import BatchConsumer, Moved, PartitionBatch
from services.kit.testing import eventually, running

ServiceDb = Callable[[Service], Database]
ServiceSettings = Callable[[Service], Settings]


async def produce(settings: Settings, run: str, count: int) -> None:
    """Outcomes whose ids say which test run they belong to."""
    context = Context(system("recorder", "retail"))
    async with Producer(settings) as producer:
        await producer.send_all([
            (
                "outcome.reported", f"{run}-{n}".encode(),
                OutcomeReported(inference_id=f"{run}-{n}", label=1.0).to_json(),
                headers(OutcomeReported, "recorder", f"{run}-{n}", context, "retail"),
            )
            for n in range(count)
        ])  # fmt: skip


class Killed(BaseException):
    """What a kill does to a handler, as far as one process can do it to itself."""


class Counter:
    """Counts the records of one run in a table, in the transaction that moves the offset."""

    def __init__(self, run: str, *, poison: bytes = b"") -> None:
        self.run = run.encode()
        self.poison = poison
        self.calls = 0
        self.stop_after: int | None = None

    async def handle(self, tx: Tx, batch: PartitionBatch) -> None:
        self.calls += 1
        mine = [r for r in batch.records if (r.key or b"").startswith(self.run)]
        if any(r.value == b"" for r in batch.records):
            raise ValueError("there is nothing in this record")
        for record in mine:
            if self.poison and self.poison in (record.value or b""):
                raise ZeroDivisionError("no handler survives this record")
            insert = "INSERT INTO inbox (event) VALUES (:event)"  # a repeat would break the primary key
            await tx.session.execute(text(insert), {"event": f"{batch.partition}/{record.offset}"})
        if self.stop_after is not None and self.calls > self.stop_after:
            raise Killed("killed before the commit")


async def counted(db: Database) -> int:
    async with db.chassis() as session:
        return int((await session.execute(text("SELECT count(*) FROM inbox"))).scalar() or 0)


Consumers = Callable[[Settings, Database, Counter, str], BatchConsumer]


@pytest.fixture
async def consumer(settings_of: ServiceSettings) -> AsyncIterator[Consumers]:
    burial = Burial(settings_of("recorder"), "recorder")
    yield lambda settings, db, counter, group: BatchConsumer(
        settings, db, ["outcome.reported"], group, counter.handle, burial, max_records=50
    )
    await burial.close()


async def test_every_record_is_counted_once_through_crashes(
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    group = f"recorder.{run}"
    await produce(outsider, run, 400)
    for stop_after in (1, 3, 5):
        counter = Counter(run)
        counter.stop_after = stop_after
        with pytest.raises(Killed):
            await asyncio.wait_for(consumer(settings, db, counter, group).run(), 30)
    async with running(consumer(settings, db, Counter(run), group).run()):
        await eventually(lambda: _is(db, 400), within=30)
    assert await counted(db) == 400


async def _is(db: Database, expected: int) -> bool:
    return await counted(db) == expected


async def test_two_workers_share_the_partitions_and_count_once(
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
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
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
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
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
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


async def dead_letters(settings: Settings, run: str) -> dict[str, tuple[bytes | None, dict[str, bytes]]]:
    """Value and headers of this run's dead letters, by key."""
    reader = AIOKafkaConsumer(**Connection.read(settings.kafka_properties).aiokafka(), enable_auto_commit=False)
    await reader.start()
    try:
        tp = TopicPartition("dlq.outcome.reported", 0)
        reader.assign([tp])
        await reader.seek_to_beginning(tp)
        end, found = (await reader.end_offsets([tp]))[tp], {}
        while await reader.position(tp) < end:
            for records in (await reader.getmany(timeout_ms=500)).values():
                found |= {(r.key or b"").decode(): (r.value, dict(r.headers)) for r in records}
        return {key: letter for key, letter in found.items() if key.startswith(run)}
    finally:
        await reader.stop()


async def _letters(settings: Settings, run: str, count: int) -> dict[str, tuple[bytes | None, dict[str, bytes]]] | None:
    found = await dead_letters(settings, run)
    return found if len(found) >= count else None


async def test_a_record_that_no_handler_survives_is_a_dead_letter_and_stops_nobody(
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    await produce(outsider, run, 60)
    await produce(outsider, f"{run}-bad", 1)
    await produce(outsider, f"{run}-good", 60)
    counter = Counter(run, poison=f"{run}-bad".encode())
    async with running(consumer(settings, db, counter, f"recorder.{run}").run()):
        await eventually(lambda: _is(db, 120), within=40)
        letters = await eventually(lambda: dead_letters(settings_of("console"), f"{run}-bad"), within=20)
    assert list(letters) == [f"{run}-bad-0"]
    assert b"no handler survives" in letters[f"{run}-bad-0"][1]["__connect.errors.exception.message"]


async def test_a_version_that_is_not_understood_is_a_dead_letter_and_its_company_is_handled(
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    said = headers(OutcomeReported, "recorder", run, Context(system("recorder", "retail")), "retail")
    value = OutcomeReported(inference_id=run, label=1.0).to_json()

    def of(version: bytes) -> list[tuple[str, bytes]]:
        schema = b"urn:fairlead:schema:outcome.reported:" + version
        return [(name, schema if name == "ce_dataschema" else content) for name, content in said]

    await produce(outsider, run, 20)
    async with Producer(outsider) as producer:
        await producer.send_all([
            ("outcome.reported", f"{run}-{version.decode()}".encode(), value, of(version))
            for version in (b"1", b"99", b"9" * 5_000)
        ])  # fmt: skip
    async with running(consumer(settings, db, Counter(run), f"recorder.{run}").run()):
        letters = await eventually(lambda: _letters(settings_of("console"), run, 2), within=40)
        await eventually(lambda: _is(db, 21), within=20)
    assert sorted(letters) == [f"{run}-99", f"{run}-{'9' * 5_000}"]
    assert letters[f"{run}-99"][0] == value
    reason = letters[f"{run}-99"][1]["__connect.errors.exception.message"]
    assert reason == b"version 99 of outcome.reported is not understood here"


async def test_a_value_that_is_too_large_for_a_dead_letter_stays_at_its_source(
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    said = headers(OutcomeReported, "recorder", run, Context(system("recorder", "retail")), "retail")
    almost, beyond = b"x" * 1_040_000, b"x" * 1_500_000
    async with Producer(outsider, compression_type="gzip", max_request_size=2_000_000) as producer:
        for name, value in (("almost", almost), ("beyond", beyond)):
            await producer.send_all([("outcome.reported", f"{run}-{name}".encode(), value, said)])
    await produce(outsider, run, 5)
    counter = Counter(run, poison=b"xxx")
    async with running(consumer(settings, db, counter, f"recorder.{run}").run()):
        await eventually(lambda: _is(db, 5), within=40)
        letters = await eventually(lambda: _letters(settings_of("console"), run, 2), within=40)
    assert letters[f"{run}-almost"][0] == almost
    value, about = letters[f"{run}-beyond"]
    assert (value, about[deadletters.LEFT_OUT]) == (None, b"1500000")
    assert about["__connect.errors.topic"] == b"outcome.reported"


async def produce_unreadable(settings: Settings, key: str) -> None:
    """One record whose header name is no text; clients refuse to write such, so the finished batch is changed."""
    async with Producer(settings) as producer:
        batch = producer.aiokafka.create_batch()
        batch.append(timestamp=None, key=key.encode(), value=b"{}", headers=[("header-name", b"1")])
        finished = batch._build

        def changed() -> bytearray:
            data = bytearray(finished())
            data[data.index(b"header-name")] = 0xFF
            data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
            return data

        batch._build = changed
        await (await producer.aiokafka.send_batch(batch, "outcome.reported", partition=0))


async def _unreadable(settings: Settings) -> bool:
    return any(value == b"" for value, _ in (await dead_letters(settings, "")).values())


async def test_a_record_that_the_client_cannot_read_is_stepped_over(
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    """A header's name that is no UTF-8 makes aiokafka fail at each try."""
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    await produce(outsider, run, 30)
    await produce_unreadable(outsider, run)
    await produce(outsider, run + "-later", 30)
    async with running(consumer(settings, db, Counter(run), f"recorder.{run}").run()):
        await eventually(lambda: _is(db, 60), within=40)
        assert await eventually(lambda: _unreadable(settings_of("console")), within=20)


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings, outsider: Settings
) -> None:
    """As after a database was restored beside an empty cluster: stored offsets are beyond what there is."""
    settings, db, run = settings_of("recorder"), service_db("recorder"), uuid4().hex
    group = f"recorder.{run}"
    await produce(outsider, run, 50)
    ahead = (
        "INSERT INTO stream_offset (name, topic, partition, next) VALUES (:name, 'outcome.reported', :n, 1000000000)"
    )
    async with db.chassis() as session:
        for number in range(OutcomeReported.topic.partitions):
            await session.execute(text(ahead), {"name": group, "n": number})
    async with running(consumer(settings, db, Counter(run), group).run()):
        await eventually(lambda: _is(db, 50), within=60)


async def test_a_worker_that_lost_its_partition_cannot_write(
    consumer: Consumers, service_db: ServiceDb, settings_of: ServiceSettings
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
