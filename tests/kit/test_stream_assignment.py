"""Between an assignment and its seek, aiokafka already reads from what the group committed: that is nobody's place."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.kit.health import Progress
from services.kit.stream import BatchConsumer, _is_end, _SeekOnAssignment

ONE, TWO = TopicPartition("inference.logged", 0), TopicPartition("inference.logged", 1)


class Consumer:
    """As much of aiokafka's consumer as the listener asks."""

    def __init__(self) -> None:
        self.sought: dict[TopicPartition, int] = {}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.sought[tp] = offset


async def test_a_partition_has_no_place_until_its_stored_offset_was_sought() -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    async def positions(partitions: object) -> dict[TopicPartition, int]:
        asked.set()
        await told.wait()
        return {ONE: 7, TWO: 0}

    consumer = Consumer()
    listener = _SeekOnAssignment(consumer, positions)  # pyright: ignore[reportArgumentType]
    assigning = asyncio.create_task(listener.on_partitions_assigned({ONE, TWO}))
    await asked.wait()
    assert listener.sought() == {}
    told.set()
    await assigning
    assert listener.sought() == consumer.sought == {ONE: 7, TWO: 0}
    await listener.on_partitions_revoked({ONE, TWO})
    assert listener.sought() == {}


async def test_stored_offsets_that_cannot_be_read_stop_the_stream_instead_of_moving_it() -> None:
    async def positions(partitions: object) -> dict[TopicPartition, int]:
        raise ConnectionError("PostgreSQL is away")

    consumer = Consumer()
    listener = _SeekOnAssignment(consumer, positions)  # pyright: ignore[reportArgumentType]
    await listener.on_partitions_assigned({ONE})
    with pytest.raises(ConnectionError):
        listener.sought()
    assert consumer.sought == {}


class Rebalanced(Consumer):
    """Assigned while it was reading: the records are from before the seek, and the position is behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.listener: _SeekOnAssignment

    async def getmany(self, **_: object) -> dict[TopicPartition, list[object]]:
        await self.listener.on_partitions_revoked({ONE, TWO})
        await self.listener.on_partitions_assigned({ONE})
        self.sought.clear()
        return {ONE: [object()], TWO: [object()]}


class Folding(BatchConsumer):
    """The poll alone: what would be folded is remembered."""

    _poll_ms = _max_records = _patience_s = 1

    def __init__(self) -> None:
        self.folded: list[TopicPartition] = []
        self._progress, self._name = Progress(), "stream"

    async def _fold(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[Any], places: object
    ) -> None:
        self.folded.append(tp)


async def test_what_was_read_across_an_assignment_is_read_again_from_the_stored_place() -> None:
    async def positions(partitions: object) -> dict[TopicPartition, int]:
        return {ONE: 7}

    consumer, folding = Rebalanced(), Folding()
    consumer.listener = _SeekOnAssignment(consumer, positions)  # pyright: ignore[reportArgumentType]
    consumer.listener.places = {ONE: 3, TWO: 5}
    await folding._poll(consumer, consumer.listener)  # pyright: ignore[reportArgumentType]
    assert folding.folded == []
    assert consumer.sought == {ONE: 7}


@pytest.mark.parametrize(
    ("highwater", "position", "end"), [(0, 0, True), (None, 0, False), (7, 6, False), (7, 7, True), (7, 8, True)]
)
def test_an_empty_partition_is_read_to_its_end(highwater: int | None, position: int, end: bool) -> None:
    assert _is_end(highwater, position) is end
