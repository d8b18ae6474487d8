"""Somebody is forgotten: what was planted about them is looked for in every file, table and topic of a platform."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from deploy.embedded.home import Home
from deploy.embedded.secrets import LAUNCHER, database_urls
from fairlead import Fairlead
from fairlead.errors import FairleadError
from services.kit.kafka import Connection, partitions_of
from services.kit.testing import eventually
from tests.browser.making import package
from tests.houses import started_house

T = TypeVar("T")

pytestmark = pytest.mark.timeout(300)

ENTITY, WAGE = "planted-person-17", 73519.25
NEEDLES = (ENTITY.encode(), str(WAGE).encode())
ENDPOINT = "forgetful-live"


class Platform:
    """A platform, and what lies in it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.urls = database_urls(home)
        self.clients: list[Fairlead] = []

    def as_(self, who: str) -> Fairlead:
        self.clients.append(Fairlead(self.home.url("console"), self.token(who)))
        return self.clients[-1]

    def token(self, who: str) -> str:
        return (self.home.path / "tokens" / f"{who}.jwt").read_text().strip()

    @asynccontextmanager
    async def database(self, service: str) -> AsyncIterator[AsyncConnection]:
        engine = create_async_engine(self.urls[service].replace("postgresql://", "postgresql+asyncpg://", 1))
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT set_config('app.units', '*', false)"))
                yield connection
        finally:
            await engine.dispose()

    async def tables(self) -> set[str]:
        """Those that hold something that was planted."""
        found: set[str] = set()
        for service in self.urls:
            async with self.database(service) as db:
                names = await db.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = :s"), {"s": service})
                for name in names.all():
                    rows = (await db.scalars(text(f"SELECT CAST(t AS text) FROM {service}.{name} t"))).all()
                    if any(holds(row.encode()) for row in rows):
                        found.add(f"{service}.{name}")
        return found

    def files(self) -> set[str]:
        """Those of services; what Kafka and PostgreSQL hold is read as topics and tables."""
        skipped = {self.home.path / "data" / name for name in ("kafka", "postgres")}
        found: set[str] = set()
        for path in self.home.path.rglob("*"):
            if path.is_file() and not skipped & {*path.parents} and holds(content_of(path)):
                found.add(str(path.relative_to(self.home.path)))
        return found

    async def topics(self) -> set[str]:
        """Those with a record that holds something."""
        connection = Connection.read(self.home.client_properties(LAUNCHER))
        consumer = AIOKafkaConsumer(**connection.aiokafka(), enable_auto_commit=False)
        await consumer.start()
        try:
            names = sorted(name for name in await consumer.topics() if not name.startswith("_"))
            return {name for name in names if await self._is_in(consumer, name)}
        finally:
            await consumer.stop()

    async def _is_in(self, consumer: AIOKafkaConsumer, topic: str) -> bool:
        tops = await partitions_of(consumer, topic)
        consumer.assign(tops)
        await consumer.seek_to_beginning(*tops)
        ends = await consumer.end_offsets(tops)
        found = False
        while any([await consumer.position(tp) < ends[tp] for tp in tops]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found |= any(holds(record.value or b"") for record in records)
        return found


def content_of(path: Path) -> bytes:
    """The bytes of a file; of Parquet the values."""
    content = path.read_bytes()
    return repr(pq.read_table(pa.BufferReader(content)).to_pylist()).encode() if content[:4] == b"PAR1" else content


def holds(content: bytes) -> bool:
    """Bytes that a table shows are in hexadecimal digits."""
    return any(needle in content or needle.hex().encode() in content for needle in NEEDLES)


@pytest.fixture
def platform() -> Iterator[Platform]:
    """One whose hosts keep little of what Kafka has."""
    with started_house(FAIRLEAD_SPOOL_TURNS_S="1") as house:
        yield from _platform(house)


def _platform(house: Path) -> Iterator[Platform]:
    port = urlsplit(json.loads((house / "endpoints.json").read_text())["console"]).port
    made = Platform(Home.of({"FAIRLEAD_HOME": str(house), "FAIRLEAD_PORT": str(port)}))
    yield made
    for client in made.clients:
        client.close()


async def test_who_is_erased_is_in_no_file_and_no_table_and_in_topics_until_they_forget(
    platform: Platform, tmp_path: Path
) -> None:
    inference = await asyncio.to_thread(decided, platform, tmp_path)
    logged = await platform.topics()
    before = await platform.tables()
    assert {"recorder.decision", "scorer.explanation"} <= before and "inference.logged" in logged
    for kind in ("inferences", "outcomes"):
        lies = f"recorder/{kind}/endpoint="
        await eventually(lambda lies=lies: any(lies in name for name in platform.files()), within=30)
    async with platform.database("monitor") as db:
        assert await db.scalar(text("SELECT count(*) FROM outcome WHERE inference_id = :id"), {"id": inference}) == 1

    compliance = platform.as_("compliance")
    asked = await asyncio.to_thread(compliance.erase, ENTITY, "a request under article 17")
    done = await asyncio.to_thread(lambda: compliance.erasure(asked.id, wait=60))
    assert (done.state, done.decisions) == ("done", 1)

    async def forgotten() -> bool:
        async with platform.database("monitor") as db:
            left = await db.scalar(text("SELECT count(*) FROM outcome WHERE inference_id = :id"), {"id": inference})
        return not left and "scorer.explanation" not in await platform.tables()

    await eventually(forgotten, within=30)
    told = {each["where"] for each in done.elsewhere if each["by"]}
    assert await platform.tables() <= {"scorer.idempotency", "monitor.closed_window"} and {"scorer", "monitor"} <= told
    await eventually(lambda: not platform.files(), within=30)
    forgets = [re.escape(where.removeprefix("topic ")).replace(r"\{endpoint\}", ".+") for where in told]
    for topic in await platform.topics():
        assert any(re.fullmatch(pattern, topic) for pattern in forgets), f"{topic} holds it, and no answer says so"
    with pytest.raises(FairleadError, match="no recorded decision"):
        await asyncio.to_thread(platform.as_("engineer").explain, inference)


def decided(platform: Platform, folder: Path) -> str:
    """A decision about somebody, explained, and what followed."""
    admin, application = platform.as_("admin"), platform.as_("application")
    name = "forgetful"
    admin.register_use_case(name, title="Who works?", owner="Labour", unit="retail", risk_tier=2, protected=[])
    admin.register(package(folder, name, 40), unit="retail")
    admin.deploy(ENDPOINT, use_case=name, model=name, version=1)
    approval = there(lambda: next(a for a in admin.approvals() if a.endpoint == ENDPOINT))
    platform.as_("compliance").approve(approval.id, "for the test")
    told = there(lambda: application.score(ENDPOINT, [[61.0, WAGE]], entity=ENTITY))
    assert told.inference_id
    application.outcomes([{"inference_id": told.inference_id, "row": 0, "label": 1}])
    there(lambda: platform.as_("engineer").explain(told.inference_id))
    token = {"authorization": f"Bearer {platform.token('engineer')}"}
    counted = f"{platform.home.url('console')}/v1/monitors/{ENDPOINT}/performance"
    there(lambda: httpx.get(counted, headers=token).json()["overall"][0])
    return told.inference_id


def there(look: Callable[[], T]) -> T:
    """What comes by and by."""
    for _ in range(200):
        try:
            return look()
        except (FairleadError, StopIteration, LookupError):
            time.sleep(0.3)
    return look()
