"""1,000 models behind 1,000 endpoints of one whole host, with memory for a tenth of them at most: each answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from contracts import Service
from deploy.embedded import kafka as embedded_kafka
from deploy.embedded import secrets
from deploy.embedded.home import Home
from deploy.embedded.standalone import free_home, running
from services.kit.objects import Objects
from services.kit.provision import provision, read_properties
from services.kit.rights import PRINCIPALS
from services.kit.testing import eventually

from .hosting import Host
from .living import bearer
from .making import House, package
from .test_residency import ADDING, adding, asking

COUNT, BUDGET_MB = 1_000, 10
NAMES = [f"adds-{n}" for n in range(COUNT)]


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Home]:
    """A broker of this test's own: a thousand states are nothing that another test should have to read."""
    home = free_home(tmp_path / "broker")
    secrets.make_secrets(home)
    secrets.write_embedded_clients(home)
    with running(embedded_kafka.part(home)):
        clients = {name: secrets.read_client_properties(home, name) for name in PRINCIPALS}
        launcher = read_properties(home.client_properties(secrets.LAUNCHER))
        provision(launcher, {name: client["sasl.password"] for name, client in clients.items()}, 120)
        yield home


@pytest.fixture
async def host(tmp_path: Path, own_broker: Home, service_url: Callable[[Service], str]) -> AsyncIterator[Host]:
    clients = {name: own_broker.client_properties(name) for name in ("scorer", "deployer")}
    house = House(tmp_path / "scorer")
    made = Host(house, clients, service_url("scorer"), FAIRLEAD_SCORER_MEMORY_MB=str(BUDGET_MB))
    made.start()
    yield made
    print(made.log_text()[-3000:])
    assert made.stop() == 0


async def deploy(host: Host, numbers: range) -> None:
    """What the deployer says, all of it at once."""
    objects, house = Objects(host.house.settings), host.house
    digests = {n: await objects.put(package(adding(n))) for n in numbers}
    await host.say(
        *(house.change(NAMES[n], house.variant(NAMES[n], digest, schema=ADDING)) for n, digest in digests.items())
    )


async def models(client: httpx.AsyncClient) -> dict[str, float]:
    """`loads`, `evictions`, and how many are `loaded` and `cold`."""
    found: dict[str, float] = {}
    for line in (await client.get("/metrics")).text.splitlines():
        name, _, value = line.rpartition(" ")
        for said in ("loads", "evictions", 'state="loaded"', 'state="cold"'):
            if (
                name.startswith("fairlead_scorer_model")
                and "worker-0" in name
                and said in name
                and "created" not in name
            ):
                found[said.removeprefix("state=").strip('"')] = float(value)
    return found


async def ask_all(client: httpx.AsyncClient, numbers: list[int]) -> None:
    for n in numbers:
        answer = await client.post(f"/v2/models/{NAMES[n]}/infer", json=asking(0.5))
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["data"] == [n + 0.5] * 2


@pytest.mark.timeout(400)
async def test_a_thousand_endpoints_of_a_host_answer_from_a_tenth_of_their_memory(host: Host) -> None:
    headers = bearer(host.house.token())
    async with httpx.AsyncClient(base_url=host.url, headers=headers, timeout=30) as client:

        async def there(count: int) -> bool:
            try:
                index = (await client.post("/v2/repository/index", json={})).json()
            except httpx.TransportError:
                return False
            return sum(one["state"] == "READY" for one in index) == count

        await deploy(host, range(1))
        await eventually(lambda: there(1), within=60, every=0.3)
        await ask_all(client, [0])
        worker = await eventually(lambda: host.child("worker"))
        before, now = worker.memory_info().rss, await models(client)  # the libraries' own
        await deploy(host, range(1, COUNT))
        await eventually(lambda: there(COUNT), within=180, every=0.5)
        for _ in range(2):  # whom the first round evicted answers in the second one
            loads = (await models(client))["loads"]
            await asyncio.gather(*(ask_all(client, list(range(k, COUNT, 4))) for k in range(4)))
            now = await models(client)
            assert now["loaded"] + now["cold"] == COUNT and now["cold"] > 0.9 * COUNT, now
            assert now["loads"] - loads > 0.9 * COUNT, "nearly every one was asked cold"
        grown = worker.memory_info().rss - before
        print(f"grown by {grown / 1e6:.0f} MB, {now}")
        assert grown < 100e6, "all of them would take more than 110 MB beyond what else grows (about 60)"
