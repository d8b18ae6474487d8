"""Events that came too early: kept in PostgreSQL, in order per key, tried again when it may help."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import text

from .away import is_away
from .db import Database
from .errors import NotYet
from .telemetry import PARKED, get_logger

if TYPE_CHECKING:
    from .bus import Delivery

log = get_logger(__name__)

PATIENCE_S = 600.0
_LOOK_AGAIN_S = 5.0

_PARK = text("""
    INSERT INTO parked (topic, partition, "offset", key, headers, value, reason)
    VALUES (:topic, :partition, :offset, :key, CAST(:headers AS jsonb), :value, :reason) ON CONFLICT DO NOTHING
""")
_NEXT = text("""
    SELECT topic, partition, "offset", key, headers, value, extract(epoch FROM now() - parked_at) AS age
    FROM parked WHERE (topic, partition, "offset") > (:topic, :partition, :offset)
    ORDER BY topic, partition, "offset" LIMIT :page
""")
_PAGE = 50
_PLACE = 'topic = :topic AND partition = :partition AND "offset" = :offset'


class Parking:
    """Retries parked events after each event that had an effect, and every few seconds."""

    def __init__(
        self,
        db: Database,
        work: Callable[["Delivery"], Awaitable[None]],
        bury: Callable[["Delivery", BaseException], Awaitable[None]],
    ) -> None:
        self._db = db
        self._work = work
        self._bury = bury
        self._arrived = asyncio.Event()

    async def holds(self, delivery: "Delivery") -> bool:
        """Whether an earlier event of the same topic and key waits: this one then waits behind it."""
        find = 'SELECT 1 FROM parked WHERE topic = :topic AND key = :key AND NOT ("offset" = :offset) LIMIT 1'
        place = {"topic": delivery.topic, "key": delivery.key.decode(errors="replace"), "offset": delivery.offset}
        async with self._db.chassis() as session:
            return (await session.execute(text(find), place)).first() is not None

    async def park(self, delivery: "Delivery", reason: str) -> None:
        """Keep a delivery; the same one twice is kept once."""
        log.info("parked", topic=delivery.topic, offset=delivery.offset, reason=reason)
        row = {
            "topic": delivery.topic, "partition": delivery.partition, "offset": delivery.offset,
            "key": delivery.key.decode(errors="replace"), "reason": reason[:1000],
            "headers": orjson.dumps([(n, v.decode(errors="replace")) for n, v in delivery.headers]).decode(),
            "value": (delivery.value or b"").decode(errors="replace"),
        }  # fmt: skip
        async with self._db.chassis() as session:
            await session.execute(_PARK, row)

    async def something_arrived(self) -> None:
        """An event had its effect: what waits may have waited for it."""
        self._arrived.set()

    async def run(self) -> None:
        """Retry until cancelled."""
        while True:
            try:
                await self._retry_all()
            except Exception as error:
                if not is_away(error):
                    raise
                log.warning("parked events wait", error=str(error)[:200])
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._arrived.wait()
            except TimeoutError:
                pass
            self._arrived.clear()

    async def _retry_all(self) -> None:
        """Page by page: a value may be large, and a service that waits for another may have parked many."""
        async with self._db.chassis() as session:
            PARKED.set((await session.execute(text("SELECT count(*) FROM parked"))).scalar() or 0)
        blocked: set[tuple[str, str]] = set()
        last: tuple[str, int, int] = ("", -1, -1)
        while rows := await self._page(last):
            for row in rows:
                if (row.topic, row.key) not in blocked and not await self._retry(row):
                    blocked.add((row.topic, row.key))
            last = rows[-1].topic, rows[-1].partition, rows[-1].offset

    async def _page(self, last: tuple[str, int, int]) -> list[Any]:
        values = dict(zip(("topic", "partition", "offset"), last, strict=True)) | {"page": _PAGE}
        async with self._db.chassis() as session:
            return list(await session.execute(_NEXT, values))

    async def _retry(self, row: Any) -> bool:
        """Try one parked event; answers whether it is settled."""
        from .bus import Delivery

        headers = tuple((name, value.encode()) for name, value in row.headers)
        delivery = Delivery(row.topic, row.partition, row.offset, row.key.encode(), row.value.encode(), headers)
        try:
            await self._work(delivery)
        except NotYet as reason:
            if row.age < PATIENCE_S:
                return False
            await self._bury(delivery, reason)
        except Exception as error:
            if is_away(error):
                raise
            await self._bury(delivery, error)
        else:
            self._arrived.set()
        async with self._db.chassis() as session:
            place = {"topic": row.topic, "partition": row.partition, "offset": row.offset}
            await session.execute(text(f"DELETE FROM parked WHERE {_PLACE}"), place)
        return True
