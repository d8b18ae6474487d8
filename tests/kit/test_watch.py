"""Clients of a broker that is away: what could not start leaves no connection and no task behind."""

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError

from contracts import ModelRetired
from services.kit.kafka import Connection
from services.kit.reader import TopicReader
from services.kit.settings import Settings
from services.kit.testing import expect_events
from services.kit.topics import administering
from services.kit.watch import reading


async def look(path: Path) -> None:
    async with reading(Connection.read(path)):
        pass


async def administer(path: Path) -> None:
    async with administering(Connection.read(path)):
        pass


async def expect(path: Path) -> None:
    async with expect_events(Settings(kafka_properties=path), ModelRetired):
        pass


async def read(path: Path) -> None:
    await TopicReader(Connection.read(path), "model.retired").start()


@pytest.mark.parametrize("start", [look, administer, expect, read])
async def test_a_client_that_could_not_start_is_closed(
    start: Callable[[Path], Awaitable[None]], tmp_path: Path
) -> None:
    nobody = tmp_path / "client.properties"
    nobody.write_text("bootstrap.servers=127.0.0.1:1\n")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(KafkaConnectionError):
            await start(nobody)
        gc.collect()
    assert [str(each.message) for each in told if issubclass(each.category, ResourceWarning)] == []


async def test_a_reader_that_is_cancelled_again_and_again_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Starlette does when whoever reads a stream leaves: each further wait is cut off."""
    path, closed, stop = tmp_path / "client.properties", list[bool](), AIOKafkaConsumer.stop
    path.write_text("bootstrap.servers=127.0.0.1:1\n")

    async def started(_: AIOKafkaConsumer) -> None: ...

    async def stopped(consumer: AIOKafkaConsumer) -> None:
        await asyncio.sleep(0)
        await stop(consumer)
        closed.append(True)

    monkeypatch.setattr(AIOKafkaConsumer, "start", started)
    monkeypatch.setattr(AIOKafkaConsumer, "stop", stopped)
    with anyio.CancelScope() as scope:
        async with reading(Connection.read(path)):
            scope.cancel()
            await anyio.sleep_forever()
    assert closed == [True]
