"""Between an assignment and its seek, aiokafka already reads from what the group committed: that is nobody's place."""

import asyncio

import pytest
from aiokafka import TopicPartition

from services.kit.stream import _SeekOnAssignment

ONE, TWO = TopicPartition("inference.logged", 0), TopicPartition("inference.logged", 1)


class Consumer:
    """As much of aiokafka's consumer as the listener asks."""

    def __init__(self) -> None:
        self.sought: dict[TopicPartition, int] = {}

    def assignment(self) -> set[TopicPartition]:
        return {ONE, TWO}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.sought[tp] = offset


async def test_a_partition_has_no_place_until_its_stored_offset_was_sought() -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    async def positions(partitions: object) -> dict[TopicPartition, int]:
        asked.set()
        await told.wait()
        return {ONE: 7, TWO: 0}

    consumer = Consumer()
    listener = _SeekOnAssignment(consumer, positions)  # type: ignore[arg-type]
    assigning = asyncio.create_task(listener.on_partitions_assigned({ONE, TWO}))
    await asked.wait()
    assert listener.sought(consumer) == {}  # type: ignore[arg-type]
    told.set()
    await assigning
    assert listener.sought(consumer) == consumer.sought == {ONE: 7, TWO: 0}  # type: ignore[arg-type]
    await listener.on_partitions_revoked({ONE, TWO})
    assert listener.sought(consumer) == {}  # type: ignore[arg-type]


async def test_stored_offsets_that_cannot_be_read_stop_the_stream_instead_of_moving_it() -> None:
    async def positions(partitions: object) -> dict[TopicPartition, int]:
        raise ConnectionError("PostgreSQL is away")

    consumer = Consumer()
    listener = _SeekOnAssignment(consumer, positions)  # type: ignore[arg-type]
    await listener.on_partitions_assigned({ONE})
    with pytest.raises(ConnectionError):
        listener.sought(consumer)  # type: ignore[arg-type]
    assert consumer.sought == {}
