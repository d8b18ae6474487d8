"""Topics as an operator reads them."""

from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

from services.kit.kafka import Connection, partitions_of


async def read_topic(home: Path, topic: str) -> list[Any]:
    """Every committed record of a topic, from its start to its present end."""
    connection = Connection.read(home / "kafka" / "operator.properties")
    consumer = AIOKafkaConsumer(**connection.aiokafka(), isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        tops = await partitions_of(consumer, topic)
        consumer.assign(tops)
        await consumer.seek_to_beginning(*tops)
        ends = await consumer.end_offsets(tops)
        found: list[Any] = []
        while any([await consumer.position(tp) < ends[tp] for tp in tops]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
        return found
    finally:
        await consumer.stop()
