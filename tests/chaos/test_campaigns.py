"""A short, seeded set of the fault campaigns: kill things under load, then count what an oracle outside remembers."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import orjson
import psutil
import pytest

from examples.census import rows
from examples.demo.cast import USE_CASE, Cast, until
from examples.demo.story import Story
from examples.demo.traffic import Application, produce
from fairlead.errors import FairleadError
from services.kit.testing import eventually
from tests.journeys.topics import read_topic

pytestmark = pytest.mark.timeout(400)
SEED = int(os.environ.get("FAIRLEAD_CHAOS_SEED") or random.SystemRandom().randrange(2**31))


def processes(house: Path, module: str) -> list[psutil.Process]:
    """The live processes of a module in this house."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("FAIRLEAD_HOME") == str(house)
            if mine and module in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@asynccontextmanager
async def serving(house: Path) -> AsyncIterator[tuple[Cast, Application]]:
    """A fresh streaming endpoint that serves the census model."""
    print(f"seed {SEED}")
    cast = Cast.of(house)
    cast.endpoint = f"chaos-{uuid4().hex[:8]}"
    story = Story(cast)
    try:
        await story.register()
        await story.deploy()
        yield cast, story.application
    finally:
        await story.application.close()
        await cast.close()


async def hammer(cast: Cast, stop: asyncio.Event, accepted: list[str], refused: Counter[str]) -> None:
    """Score until told to stop; remember every id that was answered with 200, and how others ended."""
    headers = {"Authorization": f"Bearer {cast.token('application')}"}
    bodies = [orjson.dumps(r.body) for r in rows.requests(rows.year(2016).slice(0, 50))]
    async with httpx.AsyncClient(base_url=cast.places["scorer"], headers=headers, timeout=10) as http:
        while not stop.is_set():
            try:
                answer = await http.post(f"/v2/models/{cast.endpoint}/infer", content=random.choice(bodies))
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


async def under_load(
    cast: Cast, moves: int, pause_s: tuple[float, float], move: object
) -> tuple[list[str], Counter[str]]:
    stop, accepted, refused = asyncio.Event(), list[str](), Counter[str]()
    load = [asyncio.create_task(hammer(cast, stop, accepted, refused)) for _ in range(4)]
    dice = random.Random(SEED)
    for _ in range(moves):
        await asyncio.sleep(dice.uniform(*pause_s))
        move(dice)  # pyright: ignore
    await asyncio.sleep(2)
    stop.set()
    await asyncio.gather(*load)
    return accepted, refused


@pytest.mark.parametrize(
    ("number", "module"),
    [
        (signal.SIGKILL, "services.scorer.worker"),
        (signal.SIGKILL, "services.scorer.forwarder"),
        (signal.SIGTERM, "services.scorer.worker"),
    ],
    ids=["C1 kill -9 the worker", "C1 kill -9 the forwarder", "C7 restart the worker"],
)
async def test_every_accepted_inference_is_logged_once(house: Path, number: int, module: str) -> None:
    async with serving(house) as (cast, _):

        def kill(dice: random.Random) -> None:
            if found := processes(house, module):
                dice.choice(found).send_signal(number)

        accepted, refused = await under_load(cast, 3, (1.0, 3.0), kill)
        assert len(accepted) > 50, refused
        assert set(refused) <= {"connection", "503"}

        async def all_there() -> bool:
            return set(accepted) <= set(await logged_ids(cast))

        await eventually(all_there, within=30, every=1.0)
        assert max(Counter(await logged_ids(cast)).values()) == 1


async def test_every_ask_has_one_outcome_though_the_control_services_are_killed(house: Path) -> None:
    """C3: catalog, deployer, governor and monitor are killed at random while deployments are asked for."""
    dice = random.Random(SEED)
    async with serving(house) as (cast, _):
        keys = [uuid4().hex for _ in range(6)]
        asked: dict[str, str] = {}

        async def ask(key: str) -> str | None:
            headers = {"Authorization": f"Bearer {cast.token('engineer')}", "Idempotency-Key": key}
            body = {"endpoint": f"c3-{key[:8]}", "use_case": USE_CASE, "model": "census-employment", "version": 1}
            async with httpx.AsyncClient(base_url=cast.places["deployer"], headers=headers, timeout=10) as http:
                try:
                    answer = await http.post("/v1/deployments", json=body)
                except httpx.TransportError:
                    return None
            return answer.json()["id"] if answer.status_code == 202 else None

        for key in keys:
            victim = dice.choice(["services.catalog", "services.deployer", "services.governor", "services.monitor"])
            for process in processes(house, victim):
                process.kill()
            asked[key] = await until(f"an answer to {key}", lambda key=key: ask(key), 60)

        async def reviewed() -> bool:
            page = await cast["compliance"].approvals("pending", limit=200)
            return {a.endpoint for a in page} >= {f"c3-{key[:8]}" for key in keys}

        async def quietly() -> bool:
            try:
                return await reviewed()
            except FairleadError:
                return False

        await eventually(quietly, within=90, every=1.0)
        pending = [a for a in await cast["compliance"].approvals("pending", limit=200) if a.endpoint.startswith("c3-")]
        assert Counter(a.endpoint for a in pending if a.endpoint[3:] in {k[:8] for k in keys}).most_common(1)[0][1] == 1
        assert len(set(asked.values())) == len(keys)
        verified = await cast["compliance"].verify_audit()
        assert verified.ok


async def test_poison_blocks_nothing_and_is_told(house: Path) -> None:
    """C14: broken records among good ones: every good one is answered, every bad one is a dead letter with a reason."""
    async with serving(house) as (cast, _):
        good = rows.year(2016).slice(0, 300)
        poison = [b"not json", b"{}", b'{"inputs": 7}', b"\xff\xfe", b'{"inputs": [{"name": "X"}]}']
        await produce(cast, cast.endpoint, good, poison=poison)

        async def answered() -> bool:
            kinds = Counter(
                dict(r.headers)["ce_type"] for r in await read_topic(cast.home, f"inference.completed.{cast.endpoint}")
            )
            return kinds[b"inference.completed"] == 300 and kinds[b"inference.failed"] == len(poison)

        await eventually(answered, within=60, every=1.0)
        letters = await read_topic(cast.home, f"dlq.inference.requested.{cast.endpoint}")
        assert len(letters) == len(poison)
        assert all(dict(r.headers)["__connect.errors.exception.message"] for r in letters)
