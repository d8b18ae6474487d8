"""Lanes that share a partition of answers, since there are fewer than of requests: each event is answered once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from contracts import InferenceCompleted
from services.kit.kafka import Connection
from services.kit.stream import Record
from services.kit.transaction_output import Placed
from services.scorer.streams.domain import key_of, place
from services.scorer.streams.history import History
from services.scorer.streams.items import Turn
from services.scorer.streams.work import EndpointWork, group_of

from .conftest import Stage

ID = "11111111-2222-5333-8444-555555555555"
KEY = key_of(ID)


class Answers:
    """A topic of answers with one partition, which is read when it is told."""

    def __init__(self) -> None:
        self.records: dict[int, str] = {}
        self.end = 0
        self.readable = asyncio.Event()
        self.readable.set()

    def say(self, *ids: str) -> list[int]:
        """One transaction, and the marker of its end; answers the offsets."""
        first = self.end
        self.records |= {first + n: id for n, id in enumerate(ids)}
        self.end += len(ids) + 1
        return list(range(first, first + len(ids)))

    def partitions(self) -> list[int]:
        return [0]

    async def bounds(self, partition: int, since_ms: int) -> tuple[int, int]:
        await self.readable.wait()
        return 0, self.end

    async def read(self, partition: int, start: int, end: int) -> AsyncIterator[list[Record]]:
        yield [
            Record(at, 1, None, b"{}", [("ce_type", b"inference.completed"), ("ce_inferenceid", id.encode())])
            for at, id in self.records.items() if start <= at < end
        ]  # fmt: skip


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def history(answers: Answers) -> History:
    reader: Any = answers
    made = History(reader, "answers")
    made._reader = reader
    return made


async def test_a_lane_waits_for_the_answer_of_another_until_it_is_known(answers: Answers, history: History) -> None:
    nothing: Any = None
    work = EndpointWork("credit", nothing, history, nothing)
    await work.opened(2)
    await work._claim(2, {KEY})
    (offset,) = answers.say(ID)
    answers.readable.clear()
    placed = {(work.topics.completed, 0): [Placed(offset, 1)]}
    committed = asyncio.create_task(work.committed(2, placed))
    rival = asyncio.create_task(work._claim(4, {KEY}))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not rival.done(), "it would find no answer, and score the event again"
    answers.readable.set()
    await asyncio.gather(committed, rival)
    assert history.answered.find([KEY]) == {0: place(0, offset)}


async def test_what_another_lane_wrote_between_is_read(answers: Answers, history: History) -> None:
    nothing: Any = None
    work = EndpointWork("credit", nothing, history, nothing)
    await work.opened(0)
    answers.say(ID)  # by another host
    turn = work._turns[0] = Turn({7})
    turn.answered, turn.places = [7], [0]
    (offset,) = answers.say("ours")
    answers.records.pop(offset)
    await work.committed(0, {(work.topics.completed, 0): [Placed(offset, 1)]})
    assert history.answered.find([KEY, 7]) == {0: place(0, 0), 1: place(0, offset)}


async def test_what_follows_on_what_is_known_is_not_read_again(answers: Answers, history: History) -> None:
    await history.catch_up(0)
    for _ in range(3):
        offsets = answers.say("a", "b")
        assert history.committed(0, [1, 2], offsets, offsets)
    answers.say("b")
    offsets = answers.say("a")
    assert not history.committed(0, [3], offsets, offsets)
    await history.catch_up(0)
    assert history.committed(0, [3], offsets, offsets), "it was read meanwhile"
    first, _, last = answers.say("a", "b", "c")  # the one between is another's
    assert not history.committed(0, [4, 5], [first, last], [first, last])


async def test_a_lane_that_is_opened_knows_the_answers_that_were_given_for_its_partition(
    answers: Answers, history: History
) -> None:
    nothing: Any = None
    work = EndpointWork("credit", nothing, history, nothing)
    await work.opened(0)
    answers.say(ID)  # by the lane of partition 2, on another host
    await work.opened(2)
    assert history.answered.find([KEY]) == {0: place(0, 0)}


async def test_transactions_of_one_lane_follow_on_one_another_and_another_s_shows(
    stage: Stage, streaming: Callable[..., str]
) -> None:
    endpoint = streaming(partitions=1)
    topic, properties = InferenceCompleted.topic.of(endpoint), stage.house.settings.kafka_properties
    assert properties is not None
    scorer = Connection.read(properties)
    history = History(scorer, topic)
    await history.catch_up(0)

    async def commit(producer: AIOKafkaProducer) -> bool:
        async with producer.transaction():
            (first, last) = [await producer.send_and_wait(topic, b"{}", partition=0) for _ in range(2)]
        offsets = [first.offset, last.offset]
        return history.committed(0, [first.offset, last.offset], offsets, offsets)

    one, other = [
        AIOKafkaProducer(**scorer.aiokafka(), transactional_id=f"{group_of(endpoint)}.{n}", enable_idempotence=True)
        for n in range(2)
    ]
    async with one, other:
        assert [await commit(one) for _ in range(3)] == [True] * 3
        async with other.transaction():
            await other.send_and_wait(topic, b"{}", partition=0)
        assert not await commit(one)
        await history.catch_up(0)
        assert await commit(one)
    await history.close()
