"""The test session's own Kafka and PostgreSQL: closed by default, as in a real installation."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from contracts import Service
from deploy.embedded.home import Home
from services.kit.db import Database
from services.kit.provision import read_properties


def _write(properties: Path, topic: str) -> KafkaError | None:
    errors: list[KafkaError | None] = []
    producer = Producer({**read_properties(properties), "message.timeout.ms": 5000, "log_level": 0})
    producer.produce(topic, b"{}", on_delivery=lambda error, _: errors.append(error))
    producer.flush(10)
    return errors[0]


@pytest.mark.parametrize(
    ("principal", "topic"),
    [("secrets/kafka/scorer", "inference.logged"), ("secrets/kafka/catalog", "audit.recorded"),
     ("secrets/kafka/scorer", "dlq.inference.imported"), ("kafka/application", "outcome.reported"),
     ("kafka/operator", "inference.imported"), ("secrets/kafka/console", "outcome.reported")],
)  # fmt: skip
def test_a_speaker_writes_its_topics(kafka: Path, home: Path, principal: str, topic: str) -> None:
    assert _write(home / f"{principal}.properties", topic) is None


@pytest.mark.parametrize(
    ("principal", "topic"),
    [("secrets/kafka/scorer", "approval.granted"), ("secrets/kafka/catalog", "deployment.changed"),
     ("kafka/application", "inference.logged"), ("kafka/operator", "drift.detected"),
     ("kafka/other-unit", "dlq.outcome.reported"), ("kafka/other-unit", "outcome.reported"),
     ("kafka/other-unit", "inference.imported")],
)  # fmt: skip
def test_nobody_else_does(kafka: Path, home: Path, principal: str, topic: str) -> None:
    error = _write(home / f"{principal}.properties", topic)
    assert error is not None
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_the_platform_lies_where_no_other_session_closes_it(
    installation: Home, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert tmp_path_factory.getbasetemp().parent not in installation.path.parents


async def test_a_service_sees_its_own_schema_and_no_other(service_db: Callable[[Service], Database]) -> None:
    db = service_db("catalog")
    async with db.chassis() as session:
        assert (await session.scalar(text("SELECT outbox FROM counter"))) == 0
    with pytest.raises(DBAPIError, match="permission denied for schema governor"):
        async with db.chassis() as session:
            await session.execute(text("SELECT * FROM governor.counter"))


async def test_a_service_cannot_change_its_tables(service_db: Callable[[Service], Database]) -> None:
    with pytest.raises(DBAPIError, match="permission denied for schema monitor"):
        async with service_db("monitor").chassis() as session:
            await session.execute(text("CREATE TABLE own (a int)"))
