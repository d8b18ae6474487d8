"""Dead letters of a stream: a producer that failed for good is not asked twice."""

from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest
from aiokafka.errors import ProducerClosed

from contracts import Service
from services.kit.burial import Burial
from services.kit.kafka import Connection
from services.kit.letters import DeadLetters
from services.kit.settings import Settings
from services.kit.stream import PartitionBatch, Record

TOPIC = "outcome.reported"


@pytest.fixture
async def burial(settings_of: Callable[[Service], Settings]) -> AsyncIterator[Burial]:
    made = Burial(settings_of("recorder"), "recorder")
    yield made
    await made.close()


async def test_a_producer_that_failed_is_renewed_at_the_next_try(
    settings_of: Callable[[Service], Settings], burial: Burial
) -> None:
    mine = uuid4().hex.encode()
    record = Record(7, 0, mine, b"no outcome", ())
    batch = PartitionBatch(TOPIC, 0, 7, 8, 8, [record])
    await burial.bury(batch, [(record, "first")])
    assert burial._producer
    await burial._producer.aiokafka.stop()  # as aiokafka leaves one whose sender met what it does not survive
    with pytest.raises(ProducerClosed):
        await burial.bury(batch, [(record, "lost")])
    await burial.bury(batch, [(record, "second")])
    letters, _ = await DeadLetters(Connection.read(settings_of("console").kafka_properties)).waiting(
        [f"dlq.{TOPIC}"], 1_000
    )
    reasons = {
        letter.record.header("__connect.errors.exception.message") for letter in letters if letter.record.key == mine
    }
    assert reasons == {"first", "second"}


async def test_after_its_end_a_letter_opens_a_producer_anew(burial: Burial) -> None:
    record = Record(7, 0, uuid4().hex.encode(), b"no outcome", ())
    for _ in range(2):
        await burial.bury(PartitionBatch(TOPIC, 0, 7, 8, 8, [record]), [(record, "why")])
        await burial.close()
    assert burial._producer is None
