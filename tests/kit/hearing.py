"""A service that hears use cases over a real bus, and what tests say to it."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from aiokafka.structs import RecordMetadata
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from contracts import Service, UseCaseRegistered
from services.kit.bus import Bus, Subscription, on
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.producer import Producer
from services.kit.provision import read_properties
from services.kit.settings import Settings
from services.kit.testing import eventually

_NEW = timedelta(0)
_PLAIN: Mapping[str, str] = {}


def use_case(name: str, risk_tier: int = 1) -> UseCaseRegistered:
    return UseCaseRegistered(
        use_case=name, title="t", unit="retail", owner="engineer", risk_tier=risk_tier, purpose="p"
    )


def fresh() -> str:
    return f"case-{uuid4().hex[:12]}"


class Governor:
    """A service that hears use cases and remembers what it heard, with its own transaction."""

    def __init__(self, db: Database, mine: str) -> None:
        self.db = db
        self.mine = mine
        self.heard: list[int] = []
        self.fail: Callable[[UseCaseRegistered], BaseException | None] = lambda _: None

    async def hear(self, event: UseCaseRegistered) -> None:
        if not event.use_case.startswith(self.mine):
            return
        async with self.db.transaction() as tx:
            tx.record("heard", event.use_case, risk_tier=event.risk_tier)
            if error := self.fail(event):
                raise error
        self.heard.append(event.risk_tier)

    def subscriptions(self) -> Sequence[Subscription]:
        return [on(UseCaseRegistered, self.hear)]


def bus(settings_of: Callable[[Service], Settings], governor: Governor) -> Bus:
    return Bus(settings_of("governor"), "governor", governor.db, governor.subscriptions(), Progress())


async def publish(
    settings: Settings,
    key: str,
    value: bytes,
    other: Mapping[str, str] = _PLAIN,
    *,
    id: str | None = None,
    age: timedelta = _NEW,
) -> RecordMetadata:
    """Write a record as a producer would, with whatever headers and of whatever age; answers where it lies."""
    about = dict(headers(UseCaseRegistered, "catalog", key, Context(system("catalog", "retail")), "retail", id=id))
    about |= {name: content.encode() for name, content in other.items()}
    said_ms = int((time.time() - age.total_seconds()) * 1000)
    async with Producer(settings) as producer:
        return await producer.aiokafka.send_and_wait(
            "usecase.registered", value, key.encode(), headers=list(about.items()), timestamp_ms=said_ms
        )


async def forget_group(kafka: Path, group: str) -> None:
    """Let the broker forget what a group has committed, as it does after a week without a member."""
    administrator = AdminClient({**read_properties(kafka)})

    async def forgotten() -> bool:
        forgetting = administrator.delete_consumer_groups([group])[group]
        error = await asyncio.to_thread(forgetting.exception, 10)
        return error is None or error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND

    await eventually(forgotten, within=30)
