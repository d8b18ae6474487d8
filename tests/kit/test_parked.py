"""Parked events are tried again in their order, a page at a time."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import text

from contracts import Service
from services.kit import parked
from services.kit.bus import Delivery
from services.kit.db import Database
from services.kit.errors import NotYet
from services.kit.parked import Parking
from services.kit.testing import eventually


async def test_many_are_tried_page_by_page_and_each_key_keeps_its_order(
    service_db: Callable[[Service], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked, "_PAGE", 3)
    db, done, ready = service_db("governor"), list[tuple[str, int]](), list[bool]()

    async def work(delivery: Delivery) -> None:
        key = delivery.key.decode()
        if key == "late" and not ready:
            raise NotYet("not there yet")
        done.append((key, delivery.offset))

    async def bury(delivery: Delivery, error: BaseException) -> None:
        raise AssertionError(f"{delivery.offset} was buried: {error}")

    parking = Parking(db, work, bury)
    for offset in range(10):
        await parking.park(Delivery("t", 0, offset, b"late" if offset % 4 == 0 else b"k", b"{}", ()), "early")
    trying = asyncio.create_task(parking.run())
    await eventually(lambda: len(done) == 7, within=10)
    assert done == [("k", offset) for offset in range(10) if offset % 4]
    ready.append(True)
    await parking.something_arrived()
    await eventually(lambda: len(done) == 10, within=10)
    assert done[7:] == [("late", 0), ("late", 4), ("late", 8)]

    async def empty() -> bool:
        async with db.chassis() as session:
            return (await session.execute(text("SELECT count(*) FROM parked"))).scalar() == 0

    await eventually(empty, within=10)
    trying.cancel()
