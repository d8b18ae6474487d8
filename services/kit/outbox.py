"""The relay: outbox rows to Kafka in commit order, without gaps, at least once; one relay per service at a time."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from sqlalchemy import text

from . import inbox, kafka
from .again import Backoff
from .away import is_away
from .db import Database
from .health import Progress
from .settings import Settings
from .telemetry import OUTBOX_AGE, OUTBOX_PUBLISHED, get_logger

log = get_logger(__name__)

_BATCH = 500
ANSWERS_KEPT = timedelta(days=2)
"""How long the answer to a request with an `Idempotency-Key` is given again."""
_POLL_S = 1.0

_NEXT = text("""
    SELECT number, audit, topic, key, headers, value, extract(epoch FROM clock_timestamp() - written_at) AS age
    FROM outbox WHERE number > (SELECT published FROM counter) ORDER BY number LIMIT :batch
""")


class Relay:
    """Publishes what committed. A row may be published twice after a crash; consumers know its id."""

    def __init__(self, settings: Settings, db: Database, progress: Progress) -> None:
        self._connection = kafka.Connection.read(settings.kafka_properties)
        self._db = db
        self._progress = progress
        self._wake = asyncio.Event()
        db.committed.append(self._wake.set)
        progress.expect("outbox")

    async def run(self) -> None:
        """Publish until cancelled; Kafka or PostgreSQL being away only delays."""
        backoff = Backoff(0.1)
        while True:
            try:
                await self._lead()
            except Exception as error:
                if not is_away(error):
                    raise
                self._progress.fail("outbox", f"{type(error).__name__}: {error}")
                log.warning("outbox is delayed", error=str(error)[:200])
                await asyncio.sleep(backoff.pause())

    async def _lead(self) -> None:
        """Publish as long as this process holds the service's relay lock."""
        async with self._db.engine.connect() as lock:
            await lock.execution_options(isolation_level="AUTOCOMMIT")
            if not await self._locked(lock):
                self._progress.beat("outbox")
                await asyncio.sleep(_POLL_S)
                return
            async with AIOKafkaProducer(
                **self._connection.aiokafka(), enable_idempotence=True, acks="all", linger_ms=0
            ) as producer:
                while True:
                    self._progress.work("outbox")
                    await self._drain(producer)
                    self._progress.beat("outbox")
                    await self._await_work()
                    await lock.execute(text("SELECT 1"))

    async def _locked(self, connection: Any) -> bool:
        found = await connection.execute(
            text("SELECT pg_try_advisory_lock(hashtextextended(:name, 7))"), {"name": f"outbox {self._db.service}"}
        )
        return bool(found.scalar())

    async def _await_work(self) -> None:
        try:
            async with asyncio.timeout(_POLL_S):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _drain(self, producer: AIOKafkaProducer) -> None:
        while rows := await self._rows():
            OUTBOX_AGE.set(rows[0].age)
            sent = [await producer.send(**_record(row)) for row in rows]
            await asyncio.gather(*sent)
            await self._publish_to(rows[-1].number)
            OUTBOX_PUBLISHED.inc(len(rows))
        OUTBOX_AGE.set(0)

    async def _rows(self) -> list[Any]:
        async with self._db.chassis() as session:
            return list(await session.execute(_NEXT, {"batch": _BATCH}))

    async def _publish_to(self, number: int) -> None:
        async with self._db.chassis() as session:
            await session.execute(text("UPDATE counter SET published = :number"), {"number": number})
            await session.execute(text("DELETE FROM outbox WHERE number <= :number"), {"number": number})


def _record(row: Any) -> dict[str, Any]:
    value = row.value.encode() if row.value is not None else None
    if row.audit is not None:  # the number exists only since the commit
        value = orjson.dumps(orjson.loads(value or b"{}") | {"number": row.audit})
    headers = [(name, content.encode()) for name, content in row.headers]
    return {"topic": row.topic, "key": row.key.encode(), "value": value, "headers": headers}


async def tidy(db: Database) -> None:
    """Forget what repeats can no longer refer to, once an hour."""
    while True:
        await forget(db)
        await asyncio.sleep(3600)


async def forget(db: Database) -> None:
    """Delete the inbox rows and idempotency keys that no repeat refers to any more."""
    async with db.chassis() as session:
        await inbox.forget(session)
        old = "DELETE FROM idempotency WHERE made_at < now() - CAST(:kept AS interval)"
        await session.execute(text(old), {"kept": ANSWERS_KEPT})
