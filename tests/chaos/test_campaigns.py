"""A short, seeded set of the fault campaigns: kill things under load, then count what an oracle outside remembers.

What is killed, when, and what is asked meanwhile comes from dice of the seed: `make chaos SEED=…` throws them again.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import orjson
import psutil
import pytest

from deploy.embedded.home import Home
from deploy.embedded.postgres import administrator_url
from deploy.embedded.processes import MARK
from examples.census import rows
from examples.demo.cast import USE_CASE, Cast, until
from examples.demo.story import Story
from examples.demo.traffic import Application, produce
from fairlead import Approval
from fairlead.errors import FairleadError
from services.kit.testing import eventually
from tests.houses import started_house
from tests.journeys.topics import read_topic

pytestmark = pytest.mark.timeout(400)
SEED = int(os.environ.get("FAIRLEAD_CHAOS_SEED") or random.SystemRandom().randrange(2**31))
ASKING = 4
"""Clients that score at once."""
CONTROL = ("catalog", "deployer", "governor", "monitor", "recorder", "retrainer")
COMES_BACK_S = 60
"""A victim that was killed serves again by then."""
LONGEST_ANSWER_S = 60
"""Longer than a worker takes to come back on a busy machine: requests wait for it at the socket that it inherits."""


@pytest.fixture(scope="module", autouse=True)
def _told(request: pytest.FixtureRequest) -> None:
    """Say the seed on the terminal, whatever becomes of the tests."""
    reporter: Any = request.config.pluginmanager.getplugin("terminalreporter")
    reporter.write_line(f"\nchaos: make chaos SEED={SEED}")


def dice_of(name: str) -> random.Random:
    """Dice of the seed for one part of a campaign: parts that run at once must not take each other's throws."""
    return random.Random(f"{SEED} {name}")


def processes(house: Path, module: str) -> list[psutil.Process]:
    """The live processes of a module in this house."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            # The launcher's mark: a service that was forked shows its nursery's environment, which names no home.
            mine = process.environ().get(MARK, "").endswith(f"@{house}")
            if mine and module in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@asynccontextmanager
async def serving(house: Path) -> AsyncIterator[tuple[Cast, Application]]:
    """A fresh streaming endpoint that serves the census model."""
    cast = Cast.of(house)
    cast.endpoint = f"chaos-{uuid4().hex[:8]}"
    story = Story(cast)
    try:
        await story.register()
        await story.deploy()
        yield cast, story.application
    finally:
        await cast.close()


async def hammer(
    cast: Cast, dice: random.Random, stop: asyncio.Event, accepted: list[str], refused: Counter[str]
) -> None:
    """Score until told to stop; remember every id that was answered with 200, and how others ended."""
    headers = {"Authorization": f"Bearer {cast.token('application')}"}
    bodies = [orjson.dumps(r.body) for r in rows.requests(rows.year(2016).slice(0, 50))]
    async with httpx.AsyncClient(base_url=cast.places["scorer"], headers=headers, timeout=LONGEST_ANSWER_S) as http:
        while not stop.is_set():
            try:
                answer = await http.post(f"/v2/models/{cast.endpoint}/infer", content=dice.choice(bodies))
            except httpx.TimeoutException:
                refused["hung"] += 1
                continue
            except httpx.TransportError:
                refused["connection"] += 1
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                accepted.append(answer.headers["fairlead-inference-id"])
            else:
                refused[str(answer.status_code)] += 1
            await asyncio.sleep(0.02)


async def logged_ids(cast: Cast) -> list[str]:
    """The ids in the log, without what a replayed spool repeats (same writer, number not above the highest)."""
    highest: dict[tuple[int, str], int] = {}
    ids: list[str] = []
    for record in await read_topic(cast.home, "inference.logged"):
        data = orjson.loads(record.value)
        place = (record.partition, data["writer"])
        if data["seq"] > highest.get(place, -1):
            highest[place] = data["seq"]
            if data["endpoint"] == cast.endpoint:
                ids.append(data["inference_id"])
    return ids


async def present(house: Path, module: str) -> list[psutil.Process]:
    """The processes of a module, once there is one."""
    return await eventually(lambda: processes(house, module), within=COMES_BACK_S, every=0.2)


async def hit(house: Path, module: str, number: int, dice: random.Random) -> None:
    """Send a signal to a process of a module, and wait until it is gone and another one is in its place."""
    before = await present(house, module)
    victim = dice.choice(sorted(before, key=lambda process: process.pid))
    victim.send_signal(number)

    def replaced() -> bool:
        now = {(process.pid, process.create_time()) for process in processes(house, module)}
        return (victim.pid, victim.create_time()) not in now and len(now) >= len(before)

    await eventually(replaced, within=COMES_BACK_S, every=0.2)


async def ready(cast: Cast, service: str) -> None:
    """Wait until a service says that it is ready."""

    async def says_so() -> bool:
        async with httpx.AsyncClient(base_url=cast.places[service], timeout=5) as http:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

    await eventually(says_so, within=COMES_BACK_S, every=0.2)


async def under_load(cast: Cast, module: str, number: int, moves: int) -> tuple[list[str], Counter[str]]:
    """Score all the while that a module is hit again and again, and serves again each time before the next."""
    stop, accepted, refused = asyncio.Event(), list[str](), Counter[str]()
    load = [asyncio.create_task(hammer(cast, dice_of(f"client {n}"), stop, accepted, refused)) for n in range(ASKING)]
    dice = dice_of(f"{module} {number}")
    try:
        for _ in range(moves):
            await asyncio.sleep(dice.uniform(1.0, 3.0))
            await hit(cast.home, module, number, dice)
            await ready(cast, "scorer")
            served = len(accepted)
            await eventually(lambda served=served: len(accepted) > served, within=COMES_BACK_S)
    finally:
        stop.set()
        await asyncio.gather(*load)
    return accepted, refused


@pytest.mark.parametrize("module", ["services.scorer.worker", "services.scorer.forwarder"])
async def test_every_accepted_inference_is_logged_once(house: Path, module: str) -> None:
    """C1: the worker, or the forwarder with its spool, is killed while requests go on.

    A long campaign kills every 5 to 15 s; here each kill follows 1 to 3 s of service, and three are all there are.
    """
    async with serving(house) as (cast, _):
        accepted, refused = await under_load(cast, module, signal.SIGKILL, 3)
        assert len(accepted) > 50, refused
        assert set(refused) <= {"connection", "503"}
        await all_logged_once(cast, accepted)


async def test_no_request_is_refused_while_one_worker_after_the_other_is_restarted() -> None:
    """C7: two workers are told to stop in turn, three times; nothing is lost and nobody notices."""
    with started_house(FAIRLEAD_WORKERS="2") as house:
        async with serving(house) as (cast, _):
            accepted, refused = await under_load(cast, "services.scorer.worker", signal.SIGTERM, 3)
            assert len(accepted) > 50
            assert not refused
            await all_logged_once(cast, accepted)


async def all_logged_once(cast: Cast, accepted: list[str]) -> None:
    """Wait until all that was answered is in the log, and see that nothing is there twice."""

    async def all_there() -> bool:
        return set(accepted) <= set(await logged_ids(cast))

    await eventually(all_there, within=60, every=1.0)
    assert max(Counter(await logged_ids(cast)).values()) == 1


async def test_every_ask_has_one_outcome_though_the_control_services_are_killed(house: Path) -> None:
    """C3: every service but scorer and console is killed once, in random order, while deployments are asked for."""
    dice = dice_of("C3")
    victims = dice.sample(CONTROL, len(CONTROL))
    async with serving(house) as (cast, _):
        keys = [uuid4().hex for _ in victims]
        endpoints = {key: f"c3-{uuid4().hex[:12]}" for key in keys}

        async def ask(key: str) -> str | None:
            headers = {"Authorization": f"Bearer {cast.token('engineer')}", "Idempotency-Key": key}
            body = {"endpoint": endpoints[key], "use_case": USE_CASE, "model": "census-employment", "version": 1}
            async with httpx.AsyncClient(base_url=cast.places["deployer"], headers=headers, timeout=10) as http:
                try:
                    answer = await http.post("/v1/deployments", json=body)
                except httpx.TransportError:
                    return None
            return answer.json()["id"] if answer.status_code == 202 else None

        asked: dict[str, str] = {}
        for key, service in zip(keys, victims, strict=True):
            asking = asyncio.create_task(until(f"an answer to {key}", lambda key=key: ask(key), COMES_BACK_S))
            await asyncio.sleep(dice.uniform(0.0, 0.1))
            await hit(house, f"services.{service}", signal.SIGKILL, dice)
            await ready(cast, service)
            asked[key] = await asking
            assert await ask(key) == asked[key], "the same key again is the same deployment"

        async def questions() -> Counter[str]:
            pending = [a.endpoint async for a in every_pending(cast)]
            return Counter(endpoint for endpoint in pending if endpoint in endpoints.values())

        async def all_asked() -> bool:
            try:
                return set(await questions()) == set(endpoints.values())
            except FairleadError:
                return False

        await eventually(all_asked, within=90, every=1.0)
        assert set((await questions()).values()) == {1}
        assert len(set(asked.values())) == len(keys)
        assert (await cast["compliance"].verify_audit()).ok
        await eventually(lambda: all_said(cast), within=60, every=1.0)


async def all_said(cast: Cast) -> bool:
    """Whether no service has anything left in its outbox."""
    console = urlsplit(cast.places["console"])
    connection = await asyncpg.connect(administrator_url(Home(cast.home, console.port or 80)))
    try:
        counts = [
            await connection.fetchval(f"SELECT count(*) FROM {service}.outbox") for service in (*CONTROL, "scorer")
        ]
        return sum(counts) == 0
    finally:
        await connection.close()


async def every_pending(cast: Cast) -> AsyncIterator[Approval]:
    """All that waits for a decision, page by page."""
    cursor: str | None = None
    while True:
        page = await cast["compliance"].approvals("pending", limit=200, cursor=cursor)
        for approval in page:
            yield approval
        if (cursor := page.next) is None:
            return


async def test_poison_blocks_nothing_and_is_told(house: Path) -> None:
    """C14: broken records among good ones: every good one is answered, every bad one is a dead letter with a reason."""
    dice = dice_of("C14")
    async with serving(house) as (cast, _):
        table = rows.shuffled(rows.year(2016), seed=dice.randrange(2**16)).slice(0, 300)
        broken = [b"not json", b"{}", b'{"inputs": 7}', b"\xff\xfe", b'{"inputs": [{"name": "X"}]}', b"[" * 10_000]
        poison = dice.sample(broken, len(broken))
        for start in range(0, 300, 50):
            await produce(cast, cast.endpoint, table.slice(start, 50), poison=poison[start // 50 : start // 50 + 1])

        async def answered() -> Counter[bytes]:
            records = await read_topic(cast.home, f"inference.completed.{cast.endpoint}")
            return Counter(dict(record.headers)["ce_type"] for record in records)

        async def all_answered() -> bool:
            return (await answered()).total() >= 300 + len(poison)

        await eventually(all_answered, within=60, every=1.0)
        assert await answered() == {b"inference.completed": 300, b"inference.failed": len(poison)}
        letters = await read_topic(cast.home, f"dlq.inference.requested.{cast.endpoint}")
        assert sorted(letter.value for letter in letters) == sorted(poison)
        assert all(dict(letter.headers)["__connect.errors.exception.message"] for letter in letters)
