"""A stream's events while processes join its group and leave it: nothing is lost, repeated or out of order."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import ConsumerGroupState

from services.kit.kafka import Connection
from services.kit.provision import connect
from services.kit.testing import eventually
from services.scorer.streams.work import group_of

from .conftest import Stage, headers, request, rows
from .test_streams import MakeEndpoint, answered_once_in_order, completed

_KEYS = 40
_PARTITIONS = 4
_EACH = 200
"""So many more events are answered by each membership, once it stands."""

Shares = Callable[[], Awaitable[list[int]]]


async def feed(producer: AIOKafkaProducer, endpoint: str, ids: list[str], enough: asyncio.Event) -> None:
    """Send one event after the other, as fast as four processes easily follow; `ids` are those that Kafka has."""
    values = [request(row) for row in rows(_KEYS)]
    while not enough.is_set():
        more = range(len(ids), len(ids) + 10)
        sent = [
            await producer.send(f"inference.requested.{endpoint}", values[i % _KEYS],
                                key=b"k%d" % (i % _KEYS), headers=headers(f"e{i:06}"))
            for i in more
        ]  # fmt: skip
        await asyncio.gather(*sent)
        ids += [f"e{i:06}" for i in more]
        await asyncio.sleep(0.05)


@pytest.fixture
def shares_of(kafka: Path) -> Callable[[str], Shares]:
    """How many partitions each member of an endpoint's group has; of none while they are shared out anew."""
    admin = connect(Connection.read(kafka).properties)

    def of(endpoint: str) -> Shares:
        async def shares() -> list[int]:
            group = await asyncio.wrap_future(admin.describe_consumer_groups([group_of(endpoint)])[group_of(endpoint)])
            members = group.members if group.state is ConsumerGroupState.STABLE else []
            return [len(member.assignment.topic_partitions) for member in members]

        return shares

    return of


@pytest.mark.timeout(300)
async def test_every_event_is_answered_once_and_in_order_while_processes_join_and_leave(
    stage: Stage, streaming: MakeEndpoint, producer: AIOKafkaProducer, shares_of: Callable[[str], Shares]
) -> None:
    """From one process to four and back to one, which is none of the first."""
    endpoint = streaming(partitions=_PARTITIONS)
    shares, ids, enough = shares_of(endpoint), list[str](), asyncio.Event()

    async def work_together(count: int) -> None:
        async def stands() -> bool:
            found = await shares()
            return len(found) == count and all(found) and sum(found) == _PARTITIONS

        await eventually(stands, within=90, every=0.3)
        await completed(stage, endpoint, len(ids) + _EACH, within=60)

    async def join_and_leave() -> None:
        members = [stage.start("streams")]
        await completed(stage, endpoint, 1)
        await work_together(1)
        members += [stage.start("streams") for _ in range(3)]
        await work_together(4)
        members[0].kill()  # the group's leader, among others' transactions
        await work_together(3)
        members[1].terminate()
        assert await asyncio.to_thread(members[1].wait) == 0
        await work_together(2)
        members[2].kill()
        await work_together(1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed(producer, endpoint, ids, enough))
        await join_and_leave()
        enough.set()
    await answered_once_in_order(stage, endpoint, ids)
