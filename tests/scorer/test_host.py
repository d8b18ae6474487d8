"""A scorer host: desired state in, log out, and nothing accepted is lost whatever is killed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from contracts import ReplicaReported
from services.kit.context import Context, system, use
from services.kit.objects import Objects
from services.kit.testing import eventually, expect_events
from services.scorer.settings import ScorerSettings
from services.scorer.spool.segment import HEADER_BYTES

from .hosting import Host, Log
from .living import bearer, rows
from .making import House, classifier

MODEL, OTHER = classifier(), classifier(bias=1e6)


class Load:
    """Callers who score as fast as it goes; every 2xx is a promise."""

    def __init__(self, host: Host, endpoint: str) -> None:
        self._host = host
        self._path = f"{host.url}/v2/models/{endpoint}/infer"
        self._stop = asyncio.Event()
        self._callers: list[asyncio.Task[None]] = []
        self.accepted: list[str] = []
        self.broken = 0
        """Requests whose connection was lost: they may be logged or not."""
        self.strange: list[str] = []
        """Neither 2xx nor 503 nor a lost connection."""

    async def __aenter__(self) -> "Load":
        self._callers = [asyncio.create_task(self._call()) for _ in range(4)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._callers)

    async def more(self, count: int) -> None:
        """Wait for further answers."""
        wanted = len(self.accepted) + count
        await eventually(lambda: len(self.accepted) >= wanted, within=60)

    async def _call(self) -> None:
        async with httpx.AsyncClient(headers=bearer(self._host.house.token()), timeout=20) as client:
            while not self._stop.is_set():
                try:
                    got = await client.post(self._path, content=orjson.dumps(rows([1, 2, 3])))
                except httpx.TransportError:
                    self.broken += 1
                    await asyncio.sleep(0.05)
                    continue
                if got.status_code == 200:
                    self.accepted.append(got.json()["parameters"]["inference_id"])
                elif got.status_code != 503:
                    self.strange.append(got.text)


async def test_an_endpoint_serves_what_was_deployed_and_says_so(
    host: Host, endpoint: str, clients: dict[str, Path]
) -> None:
    listening = ScorerSettings(home=host.house.home, kafka_properties=clients["operator"])

    def ready(revision: int, version: int) -> Callable[[ReplicaReported], bool]:
        wanted = (endpoint, "ready", revision, (version,))
        return lambda report: (report.endpoint, report.state, report.revision, report.loaded) == wanted

    async with expect_events(listening, ReplicaReported, within=30, where=ready(1, 1)) as seen:
        await host.deploy(endpoint, MODEL)
        await host.serves(endpoint)
    assert seen.of(ReplicaReported)[0].slots == 1
    async with expect_events(listening, ReplicaReported, within=30, where=ready(2, 2)):
        await host.deploy(endpoint, OTHER, version=2, revision=2)
        await host.serves(endpoint, "2")


async def test_what_was_answered_is_on_the_topic_as_a_cloudevent(
    host: Host, endpoint: str, clients: dict[str, Path]
) -> None:
    await host.deploy(endpoint, MODEL)
    await host.serves(endpoint)
    body = rows([1, 2, 3], parameters={"entity": "c-9", "correlation_id": "story-1"}, id="same")
    answer = (await host.infer(endpoint, body)).json()

    async def arrived() -> bool:
        return answer["parameters"]["inference_id"] in (await Log(clients["operator"], endpoint).read()).ids

    await eventually(arrived, within=10)
    log = await Log(clients["operator"], endpoint).read()
    said, event = next(one for one in log.distinct if one[1].request_id == "same")
    assert (said["ce_id"], said["ce_subject"]) == (event.inference_id, endpoint)
    assert (said["ce_correlationid"], said["ce_unit"], said["ce_actor"]) == ("story-1", "retail", "application")
    assert said["ce_type"] == "inference.logged"
    assert said["traceparent"] == said["ce_traceparent"]
    assert event.response == answer


@pytest.mark.parametrize("victim", ["worker", "forwarder"])
async def test_every_accepted_inference_is_logged_once_through_kills(
    host: Host, endpoint: str, clients: dict[str, Path], victim: str
) -> None:
    await host.deploy(endpoint, MODEL)
    await host.serves(endpoint)
    async with Load(host, endpoint) as load:
        for _ in range(3):
            await load.more(40)
            await host.kill(victim)
        await load.more(40)
    assert load.strange == []
    accepted = {*load.accepted, *host.accepted}

    async def complete() -> bool:
        return accepted <= set((await Log(clients["operator"], endpoint).read()).ids)

    await eventually(complete, within=30)
    ids = (await Log(clients["operator"], endpoint).read()).ids
    assert len(ids) == len(set(ids))
    # Logged, and killed before the reply: only requests whose connection broke.
    assert len(set(ids) - accepted) <= load.broken + host.broken


async def test_a_large_payload_goes_to_the_object_store(host: Host, endpoint: str, clients: dict[str, Path]) -> None:
    await host.deploy(endpoint, MODEL)
    await host.serves(endpoint)
    body = rows(*[[0.123456, 2.0, 3.0]] * 40_000)
    id = (await host.infer(endpoint, body)).json()["parameters"]["inference_id"]

    async def found() -> object:
        log = await Log(clients["operator"], endpoint).read()
        return next((event for _, event in log.distinct if event.inference_id == id), None)

    event = await eventually(found, within=10)
    reference = event.request["reference"]  # pyright: ignore[reportAttributeAccessIssue]
    assert reference["rows"] == 40_000
    with use(Context(system("recorder"))):
        kept = orjson.loads(await Objects(host.house.settings).get(reference["digest"]))
    assert kept == orjson.loads(orjson.dumps(body))


async def test_a_payload_just_below_the_bound_travels_in_the_record(
    host: Host, endpoint: str, clients: dict[str, Path]
) -> None:
    await host.deploy(endpoint, MODEL)
    await host.serves(endpoint)
    body = rows(*[[0.1234567, 2.125, 3.125]] * 14_000)
    ids = [(await host.infer(endpoint, body)).json()["parameters"]["inference_id"] for _ in range(5)]

    async def found() -> list[int]:
        log = await Log(clients["operator"], endpoint).read()
        sizes = [len(e.to_json()) for _, e in log.distinct if e.inference_id in ids and "inputs" in e.request]
        return sizes if len(sizes) == len(ids) else []

    assert min(await eventually(found, within=10)) > 256 * 1024


async def test_a_lower_revision_and_a_stranger_s_signature_change_nothing(
    host: Host, endpoint: str, clients: dict[str, Path], tmp_path: Path
) -> None:
    await host.deploy(endpoint, OTHER, version=2, revision=5)
    await host.serves(endpoint, "2")
    old = host.house.change(endpoint, host.house.variant(endpoint, "sha256:" + "0" * 64), revision=4)
    forged = House(tmp_path / "stranger").change(endpoint, *old.variants, revision=9)
    listening = ScorerSettings(home=host.house.home, kafka_properties=clients["operator"])

    def refused(report: ReplicaReported) -> bool:
        return report.endpoint == endpoint and report.state == "failed"

    async with expect_events(listening, ReplicaReported, within=20, where=refused) as seen:
        await host.say(old)
        await host.say(forged)
    (told,) = seen.of(ReplicaReported)
    assert (told.revision, told.loaded) == (9, (2,))
    assert told.reason and "not trusted" in told.reason
    await host.serves(endpoint, "2")


async def test_a_version_that_waits_for_the_host_itself_is_loading_and_not_failed(
    host: Host, endpoint: str, clients: dict[str, Path]
) -> None:
    listening = ScorerSettings(home=host.house.home, kafka_properties=clients["operator"])
    said: list[ReplicaReported] = []

    def of(state: str) -> Callable[[ReplicaReported], bool]:
        def matches(report: ReplicaReported) -> bool:
            if report.endpoint == endpoint:
                said.append(report)
            return report.endpoint == endpoint and report.state == state and bool(report.reason or report.loaded)

        return matches

    packages = host.house.settings.run_folder / "packages"
    packages.parent.mkdir(parents=True, exist_ok=True)
    packages.write_text("no folder: nothing can be fetched into it")
    async with expect_events(listening, ReplicaReported, within=30, where=of("loading")):
        await host.deploy(endpoint, MODEL)
    async with expect_events(listening, ReplicaReported, within=30, where=of("ready")):
        packages.unlink()
        await host.serves(endpoint)
    assert "failed" not in {report.state for report in said}


async def test_a_killed_host_leaves_nobody_and_comes_back_serving(host: Host, endpoint: str) -> None:
    await host.deploy(endpoint, MODEL)
    await host.serves(endpoint)
    assert host.process
    family = psutil.Process(host.process.pid).children(recursive=True)
    host.process.kill()
    host.process.wait()
    await eventually(lambda: not psutil.wait_procs(family, 0)[1], within=15)
    host.start()
    await host.serves(endpoint)


async def test_the_host_is_ready_and_shows_all_processes_metrics(host: Host, endpoint: str) -> None:
    await host.deploy(endpoint, MODEL)
    await host.serves(endpoint)
    async with httpx.AsyncClient(base_url=host.url) as client:

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(ready, within=10)

        async def logged() -> bool:
            page = (await client.get("/metrics")).text
            return 'fairlead_scorer_logged_total{slot="0",process="forwarder"}' in page

        await eventually(logged, within=10)

        async def all_said() -> bool:
            delayed = (await client.get("/readyz")).json()["delayed"]
            return not delayed.keys() & {"process streams", "process batches"}

        await eventually(all_said, within=20)
        page = (await client.get("/metrics")).text
    assert 'process="agent"' in page
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")]
    assert len(names) == len(set(names))


async def test_a_child_that_ends_again_and_again_is_told_and_what_a_killed_host_left_is_gone(host: Host) -> None:
    settings = host.house.settings
    stale = settings.run_folder / "loaded" / "worker-7.json"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_bytes(orjson.dumps({"pid": 1, "endpoints": {}}))
    assert host.process
    host.process.kill()
    host.process.wait()
    host.start()
    await eventually(lambda: not stale.exists(), within=30)
    async with httpx.AsyncClient(base_url=host.url) as client:

        async def told() -> bool:
            try:
                return "ended" in (await client.get("/readyz")).json()["delayed"].get("process agent", "")
            except httpx.TransportError:
                return False

        for _ in range(3):
            child = await eventually(lambda: host.child("agent"), within=20)
            child.kill()
            await asyncio.to_thread(child.wait, 10)
        await eventually(told, within=10)


async def test_a_stopped_host_leaves_an_empty_spool(host: Host, endpoint: str, clients: dict[str, Path]) -> None:
    await host.deploy(endpoint, MODEL)
    await host.serves(endpoint)
    async with Load(host, endpoint) as load:
        await load.more(40)
        assert await asyncio.to_thread(host.stop) == 0
    assert load.strange == []
    log = await Log(clients["operator"], endpoint).read()
    assert set(load.accepted) <= set(log.ids)
    kept = [path for path in host.house.settings.spool_folder.glob("*/*.seg") if path.stat().st_size > HEADER_BYTES]
    assert kept == [], "what Kafka has lies on no disk of a host that is gone"
