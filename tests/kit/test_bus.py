"""Events from one service's transaction to another's, on real Kafka: once, in order, none skipped silently."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import text

from contracts import ModelRegistered, ModelRetired, Service, UseCaseRegistered
from services.kit import bus as bus_module
from services.kit import deadletters, kafka
from services.kit.again import again
from services.kit.bus import Bus, current_envelope, on
from services.kit.cloudevents import headers
from services.kit.context import Caller, Context, current, use
from services.kit.db import Database
from services.kit.errors import Invalid, NotYet
from services.kit.health import Progress
from services.kit.kafka import Connection
from services.kit.outbox import Relay
from services.kit.producer import Producer
from services.kit.settings import Settings
from services.kit.testing import eventually, expect_events, running

from .hanging import Hanging
from .hearing import Governor, bus, forget_group, fresh, publish, use_case

ENGINEER = Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"}))
ServiceDb = Callable[[Service], Database]
ServiceSettings = Callable[[Service], Settings]


@pytest.fixture
def governor(service_db: ServiceDb) -> Governor:
    return Governor(service_db("governor"), fresh())


async def say(db: Database, *events: UseCaseRegistered) -> None:
    with use(Context(ENGINEER, correlation_id="the-story")):
        async with db.transaction() as tx:
            for event in events:
                tx.emit(event)


async def dead(settings: Settings, key: str) -> list[dict[str, str]]:
    """The headers of a key's dead letters."""
    consumer = AIOKafkaConsumer(**Connection.read(settings.kafka_properties).aiokafka(), enable_auto_commit=False)
    await consumer.start()
    try:
        tp = TopicPartition("dlq.usecase.registered", 0)
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        found: list[dict[str, str]] = []
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [{n: v.decode() for n, v in r.headers} for r in records if r.key == key.encode()]
        return found
    finally:
        await consumer.stop()


async def test_what_one_service_says_another_hears_in_order(
    service_db: ServiceDb, settings_of: ServiceSettings, governor: Governor
) -> None:
    catalog = service_db("catalog")
    relay = Relay(settings_of("catalog"), catalog, Progress())
    async with running(relay.run(), bus(settings_of, governor).run()):
        await say(catalog, *(use_case(governor.mine, n) for n in range(1, 5)))
        await eventually(lambda: governor.heard == [1, 2, 3, 4], within=20)
    async with catalog.chassis() as session:
        assert (await session.execute(text("SELECT count(*) FROM outbox"))).scalar() == 0


async def test_a_handler_continues_the_story_in_the_events_unit(
    service_db: ServiceDb, settings_of: ServiceSettings, governor: Governor
) -> None:
    seen: list[object] = []

    def look(_: UseCaseRegistered) -> None:
        seen.extend([current().correlation_id, current().caller.units, current_envelope().actor])

    governor.fail = look
    catalog = service_db("catalog")
    relay = Relay(settings_of("catalog"), catalog, Progress())
    async with running(relay.run(), bus(settings_of, governor).run()):
        await say(catalog, use_case(governor.mine))
        await eventually(lambda: governor.heard, within=20)
    assert seen == ["the-story", frozenset({"retail"}), "engineer"]


async def test_a_repeated_event_has_one_effect(settings_of: ServiceSettings, governor: Governor) -> None:
    catalog, id = settings_of("catalog"), str(uuid4())
    async with running(bus(settings_of, governor).run()):
        for n in (1, 1, 1):
            await publish(catalog, governor.mine, use_case(governor.mine, n).to_json(), id=id)
        await publish(catalog, governor.mine, use_case(governor.mine, 2).to_json())
        await eventually(lambda: 2 in governor.heard, within=20)
    assert governor.heard == [1, 2]


@pytest.mark.parametrize(
    ("value", "other", "reason"),
    [
        (b"not json", {}, "JSON"),
        (b'{"use_case": "x"}', {}, "title"),
        (b"\xff\xfe", {}, ""),
        (use_case("x").to_json(), {"ce_type": "something.else"}, "carries usecase.registered"),
        (use_case("x").to_json(), {"ce_dataschema": "urn:fairlead:schema:usecase.registered:9"}, "version 9"),
        (use_case("x").to_json(), {"ce_id": ""}, "ce_id"),
        (use_case("x").to_json(), {"ce_time": "yesterday"}, "ce_time"),
    ],
)
async def test_what_cannot_be_understood_is_a_dead_letter_at_once_and_blocks_nothing(
    settings_of: ServiceSettings, governor: Governor, value: bytes, other: dict[str, str], reason: str
) -> None:
    catalog = settings_of("catalog")
    async with running(bus(settings_of, governor).run()):
        await publish(catalog, governor.mine, value, other)
        await publish(catalog, governor.mine, use_case(governor.mine, 2).to_json())
        await eventually(lambda: governor.heard == [2], within=20)
        [letter] = await eventually(lambda: dead(settings_of("console"), governor.mine), within=10)
    assert reason in letter["__connect.errors.exception.message"]
    assert letter["__connect.errors.topic"] == "usecase.registered"
    assert letter["fairlead-service"] == "governor"


async def test_a_key_or_a_header_that_no_table_takes_is_a_dead_letter_and_blocks_nothing(
    settings_of: ServiceSettings, governor: Governor
) -> None:
    said = headers(UseCaseRegistered, "catalog", governor.mine, Context(ENGINEER), "retail")
    odd = f"{governor.mine}\0"
    async with running(bus(settings_of, governor).run()):
        async with Producer(settings_of("catalog")) as producer:
            value = use_case(governor.mine, 1).to_json()
            await producer.send_all([
                ("usecase.registered", odd.encode(), value, said),
                ("usecase.registered", governor.mine.encode(), value, [*said, ("ce_id", cast(bytes, None))]),
                ("usecase.registered", governor.mine.encode(), value, [*said, ("note", b"\xff")]),
            ])  # fmt: skip
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 2).to_json())
        await eventually(lambda: governor.heard == [2], within=20)
        assert await eventually(lambda: dead(settings_of("console"), odd), within=10)
        letters = await dead(settings_of("console"), governor.mine)
    reasons = [letter["__connect.errors.exception.message"] for letter in letters]
    assert reasons == ["not a CloudEvent: no header ce_id", "a header is not UTF-8"]


async def test_a_domain_refusal_in_a_handler_is_a_dead_letter(settings_of: ServiceSettings, governor: Governor) -> None:
    governor.fail = lambda e: Invalid("nobody of that name") if e.risk_tier == 1 else None
    async with running(bus(settings_of, governor).run()):
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 1).to_json())
        [letter] = await eventually(lambda: dead(settings_of("console"), governor.mine), within=20)
    assert letter["__connect.errors.exception.class.name"] == "Invalid"


async def test_an_unexpected_error_is_tried_three_times_then_a_dead_letter(
    settings_of: ServiceSettings, governor: Governor
) -> None:
    tries: list[int] = []

    def fail(event: UseCaseRegistered) -> BaseException | None:
        tries.append(event.risk_tier)
        return ZeroDivisionError("a bug") if event.risk_tier == 1 else None

    governor.fail = fail
    async with running(bus(settings_of, governor).run()):
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 1).to_json())
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 2).to_json())
        await eventually(lambda: governor.heard == [2], within=30)
        assert await dead(settings_of("console"), governor.mine)
    assert tries == [1, 1, 1, 2]


async def test_what_fails_after_the_transaction_is_a_dead_letter_not_a_repeat(
    service_db: ServiceDb, settings_of: ServiceSettings
) -> None:
    db, mine, tries = service_db("governor"), fresh(), list[int]()

    async def hear(event: UseCaseRegistered) -> None:
        if event.use_case != mine:
            return
        tries.append(event.risk_tier)
        async with db.transaction() as tx:
            tx.record("heard", event.use_case)
        async with db.transaction() as tx:
            tx.record("heard again", event.use_case)

    listening = Bus(settings_of("governor"), "governor", db, [on(UseCaseRegistered, hear)], Progress())
    async with running(listening.run()):
        await publish(settings_of("catalog"), mine, use_case(mine, 1).to_json())
        [letter] = await eventually(lambda: dead(settings_of("console"), mine), within=20)
    assert letter["__connect.errors.exception.class.name"] == "HalfDone"
    assert "one transaction" in letter["__connect.errors.exception.message"]
    assert tries == [1]


async def test_an_event_that_came_too_early_waits_and_keeps_its_keys_order(
    settings_of: ServiceSettings, governor: Governor
) -> None:
    ready: list[bool] = []
    governor.fail = lambda e: NotYet("the model is not there yet") if e.risk_tier == 1 and not ready else None
    catalog = settings_of("catalog")
    async with running(bus(settings_of, governor).run()):
        for n in (1, 2):
            await publish(catalog, governor.mine, use_case(governor.mine, n).to_json())

        async def parked() -> bool:
            async with governor.db.chassis() as session:
                return (await session.execute(text("SELECT count(*) FROM parked"))).scalar() == 2

        await eventually(parked, within=20)
        assert governor.heard == []
        ready.append(True)
        await eventually(lambda: governor.heard == [1, 2], within=20)
        assert await dead(settings_of("console"), governor.mine) == []


async def test_while_postgresql_is_away_nothing_is_dead_lettered(
    settings_of: ServiceSettings, governor: Governor
) -> None:
    tries: list[int] = []

    def fail(_: UseCaseRegistered) -> BaseException | None:
        tries.append(1)
        return ConnectionRefusedError("PostgreSQL is away") if len(tries) < 4 else None

    governor.fail = fail
    async with running(bus(settings_of, governor).run()):
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 1).to_json())
        await eventually(lambda: governor.heard == [1], within=30)
    assert await dead(settings_of("console"), governor.mine) == []
    assert len(tries) == 4


async def test_an_event_in_hand_when_a_service_stops_comes_again(
    settings_of: ServiceSettings, governor: Governor
) -> None:
    in_hand = asyncio.Event()

    async def hold(event: UseCaseRegistered) -> None:
        if event.use_case == governor.mine:
            in_hand.set()
            await asyncio.Event().wait()

    stopped = Bus(settings_of("governor"), "governor", governor.db, [on(UseCaseRegistered, hold)], Progress())
    async with running(stopped.run()):
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 1).to_json())
        await eventually(in_hand.is_set, within=20)
    async with running(bus(settings_of, governor).run()):
        await eventually(lambda: governor.heard == [1], within=20)


async def test_what_was_said_before_a_service_first_started_is_heard(
    kafka: Path, settings_of: ServiceSettings, governor: Governor
) -> None:
    await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 1).to_json())
    await forget_group(kafka, "governor")
    async with running(bus(settings_of, governor).run()):
        await eventually(lambda: governor.heard == [1], within=20)


async def test_a_replay_for_another_service_is_skipped(settings_of: ServiceSettings, governor: Governor) -> None:
    catalog = settings_of("catalog")
    async with running(bus(settings_of, governor).run()):
        other = {deadletters.FOR: "deployer"}
        await publish(catalog, governor.mine, use_case(governor.mine, 1).to_json(), other)
        mine = {deadletters.FOR: "governor"}
        await publish(catalog, governor.mine, use_case(governor.mine, 2).to_json(), mine)
        await eventually(lambda: governor.heard, within=20)
    assert governor.heard == [2]


async def test_a_service_cannot_write_what_another_says(settings_of: ServiceSettings) -> None:
    from aiokafka.errors import TopicAuthorizationFailedError

    with pytest.raises(TopicAuthorizationFailedError):
        await publish(settings_of("monitor"), fresh(), b"{}")


async def test_events_around_an_action_are_seen(service_db: ServiceDb, settings_of: ServiceSettings) -> None:
    catalog = service_db("catalog")
    async with running(Relay(settings_of("catalog"), catalog, Progress()).run()):
        async with expect_events(settings_of("console"), UseCaseRegistered) as seen:
            await say(catalog, use_case(fresh(), 3))
        assert [event.risk_tier for event in seen.of(UseCaseRegistered)] == [3]
        with pytest.raises(AssertionError, match=r"model\.retired"):
            async with expect_events(settings_of("console"), ModelRetired, within=0.5):
                pass
        assert ModelRegistered not in seen.events


def once(error: BaseException) -> Callable[[object], BaseException | None]:
    """Fail with this at the first call alone."""
    left = [error]
    return lambda _: left.pop() if left else None


async def test_a_consumption_that_was_cancelled_from_within_begins_again(
    settings_of: ServiceSettings, governor: Governor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastStream starts a loop again that failed, and none that was cancelled; a handler's cancellation is no order."""
    monkeypatch.setattr(kafka, "PULSE_S", 0.3)
    governor.fail = once(asyncio.CancelledError())
    async with running(again("bus", lambda: bus(settings_of, governor).run(), Progress())):
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 1).to_json())
        await eventually(lambda: governor.heard == [1], within=60)


async def test_a_bus_that_the_cluster_does_not_answer_is_replaced(
    settings_of: ServiceSettings, governor: Governor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its consumer hangs, even in its farewell, while Kafka answers everybody else."""
    monkeypatch.setattr(kafka, "PULSE_S", 0.3)
    monkeypatch.setattr(kafka, "PATIENCE_S", 2.0)
    monkeypatch.setattr(bus_module, "_FAREWELL_S", 2.0)
    hanging, ask = Hanging(monkeypatch), kafka.Pulse._ask
    hanging.at("getone")
    hanging.at("stop")

    async def asked(pulse: kafka.Pulse) -> bool:
        return not hanging.has(pulse._consumer) and await ask(pulse)

    monkeypatch.setattr(kafka.Pulse, "_ask", asked)
    async with running(again("bus", lambda: bus(settings_of, governor).run(), Progress())):
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 1).to_json())
        await eventually(lambda: governor.heard == [1], within=30)
        hanging.begin.set()
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 2).to_json())
        await asyncio.wait_for(hanging.hangs.wait(), 10)
        await publish(settings_of("catalog"), governor.mine, use_case(governor.mine, 3).to_json())
        await eventually(lambda: governor.heard[-1] == 3, within=60)
