"""C9: callers while Kafka is away, and what is in the log once it is back."""

import asyncio
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from deploy.embedded import kafka, secrets
from deploy.embedded.home import Home
from deploy.embedded.standalone import free_home, running
from services.kit.testing import eventually
from services.scorer.forwarder import Slot
from tests.houses import started_broker

from .hosting import Host, Log
from .living import bearer, rows
from .making import classifier

pytestmark = pytest.mark.timeout(400)
BODY = orjson.dumps(rows(*[[0.1234567, 2.125, 3.125]] * 10_000))
"""Nearly as large as a record holds in full: a few hundred of them are far more than `ROOM`, and take seconds."""
AWAY = 200
"""Requests of each time that the broker is away."""
ROOM = 48 * 2**20
"""Bytes by which worker and forwarder may grow together: a piece of the spool in hand, and the allocator's moods. What
waits for the broker is more than that each time: whoever keeps it in memory is beyond it."""
CALLERS = 4


@pytest.fixture
def installation_apart() -> Iterator[Home]:
    """Secrets and addresses for a broker of the test's own: the session's is everybody's."""
    with tempfile.TemporaryDirectory(prefix="fairlead-away-", ignore_cleanup_errors=True) as folder:
        home = free_home(Path(folder))
        secrets.make_secrets(home)
        secrets.write_embedded_clients(home)
        yield home


@pytest.fixture
def broker(installation_apart: Home) -> Iterator["subprocess.Popen[bytes]"]:
    with started_broker(installation_apart) as process:
        yield process


@pytest.fixture
def clients(installation_apart: Home, broker: "subprocess.Popen[bytes]") -> dict[str, Path]:
    """`host` is beside that broker."""
    return {name: installation_apart.client_properties(name) for name in ("scorer", "deployer", "operator")}


@contextmanager
def stopped(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """It takes connections and says nothing, as a broker behind a broken network does."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


async def score(host: Host, endpoint: str, count: int) -> None:
    """So many requests, all of which are answered with 200."""
    todo = iter(range(count))

    async def call(client: httpx.AsyncClient) -> None:
        for _ in todo:
            answer = await client.post(f"{host.url}/v2/models/{endpoint}/infer", content=BODY)
            assert answer.status_code == 200, answer.text[:300]
            host.accepted.append(answer.headers["fairlead-inference-id"])

    async with httpx.AsyncClient(headers=bearer(host.house.token()), timeout=60) as client:
        await asyncio.gather(*(call(client) for _ in range(CALLERS)))


def waiting(host: Host) -> int:
    """Bytes of the worker's spool that Kafka has not acknowledged."""
    return Slot(host.house.settings.spool_folder / "0").backlog


async def peak(host: Host, module: str) -> int:
    """The most memory that a child ever had, resident, in bytes."""
    child = await eventually(lambda: host.child(module), within=20)
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child.pid}/status").read_text())
    return int(kib) * 1024


async def away(host: Host, endpoint: str) -> None:
    """What callers and the host do while the broker is stopped."""
    await score(host, endpoint, AWAY // 2)
    await host.kill("forwarder")  # what it sent and nobody acknowledged is sent again, by another producer
    await score(host, endpoint, AWAY // 2)
    assert waiting(host) > ROOM
    async with httpx.AsyncClient(timeout=60) as client:
        assert (await client.get(f"{host.url}/readyz")).status_code == 200


async def test_while_the_broker_is_away_all_are_answered_nothing_is_lost_and_memory_does_not_grow(
    host: Host, endpoint: str, clients: dict[str, Path], installation_apart: Home, broker: "subprocess.Popen[bytes]"
) -> None:
    await host.deploy(endpoint, classifier())
    await host.serves(endpoint)
    await score(host, endpoint, AWAY // 5)
    await eventually(lambda: not waiting(host), within=60)
    worker, before = host.child("worker"), await peak(host, "worker") + await peak(host, "forwarder")
    with stopped(broker):
        await away(host, endpoint)
    await eventually(lambda: not waiting(host), within=120)
    with stopped(broker):
        await away(host, endpoint)
        broker.kill()  # and what the forwarder sent to it is gone
    with running(kafka.part(installation_apart)):
        await eventually(lambda: not waiting(host), within=120)
        log = await Log(clients["operator"], endpoint).read()
        assert sorted(log.ids) == sorted(host.accepted)
        assert host.child("worker") == worker
        grown = await peak(host, "worker") + await peak(host, "forwarder") - before
        assert grown < ROOM, f"{grown / 2**20:.0f} MiB"
        assert host.stop() == 0
