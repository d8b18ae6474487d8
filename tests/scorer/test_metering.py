"""What a model costs: what is metered is what the processes used, and it is told to whoever it concerns."""

import asyncio
import os
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import orjson
import psutil
import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists, tuples

from contracts import UsageReported
from services.kit.objects import Objects
from services.kit.testing import eventually, expect_events
from services.scorer.engines import life_of
from services.scorer.lane import Lane
from services.scorer.logrecord import Origin
from services.scorer.metering import Meter
from services.scorer.settings import ScorerSettings
from services.scorer.usage import used

from .hosting import Host
from .living import bearer, rows
from .making import classifier, package
from .test_lane import LIMITS, Model
from .test_sandboxed import skops_classifier

ORIGIN = Origin("credit", "retail", "loans", "credit", 1, "champion")


@dataclass
class Engine:
    """A model that used what a test says."""

    waiting: int = 0
    busy_s: float = 0.0
    inline_s: float = 0.0
    thread_cpu_s: float = 0.0
    outside_cpu_s: float = 0.0
    lowered: int = 0
    inside_bytes: int = 0
    outside_bytes: int = 0
    ended: bool = False


class Machine:
    """A clock, and how much processor time the process has used."""

    def __init__(self) -> None:
        self.at = self.cpu = 0.0
        self.meter = Meter(lambda: self.cpu, lambda: self.at)

    def passes(self, seconds: float, cpu: float) -> None:
        self.at += seconds
        self.cpu += cpu
        self.meter.settle()

    @property
    def shared_out(self) -> float:
        accounts = self.meter.accounts
        return sum(a.model_cpu_s + a.serving_cpu_s for a in accounts) + self.meter.overhead_cpu_s


def test_all_that_a_process_used_is_shared_out_by_who_caused_it() -> None:
    machine = Machine()
    light, dear = machine.meter.account(ORIGIN), machine.meter.account(Origin("dear", "retail", "l", "m", 1, "c"))
    light.engines.append(one := Engine())
    dear.engines.append(other := Engine())
    machine.passes(10, 0.1)
    assert machine.meter.overhead_cpu_s == pytest.approx(0.1)
    one.inline_s, light.own_s = 1.0, 1.0
    other.inline_s, dear.own_s, other.thread_cpu_s, other.outside_cpu_s = 0.0, 1.0, 2.0, 5.0
    machine.passes(10, 8.1)  # 2 in a thread, 0.1 of idling, 6 around three seconds on the loop
    assert machine.shared_out == pytest.approx(8.2 + 5.0)
    assert (light.model_cpu_s, light.serving_cpu_s) == (pytest.approx(2.0), pytest.approx(2.0))
    assert (dear.model_cpu_s, dear.serving_cpu_s) == (pytest.approx(7.0), pytest.approx(2.0))
    assert machine.meter.overhead_cpu_s == pytest.approx(0.2)


def test_a_model_that_is_gone_keeps_what_it_used_and_its_successor_adds_to_it() -> None:
    machine = Machine()
    account = machine.meter.account(ORIGIN)
    account.engines.append(first := Engine(outside_cpu_s=3.0, outside_bytes=1000, busy_s=4.0))
    machine.passes(2, 0.1)
    first.ended, first.outside_cpu_s, first.outside_bytes = True, 3.5, 0
    machine.passes(2, 0.1)
    assert account.engines == []
    account.engines.append(Engine(outside_cpu_s=1.0, outside_bytes=500, busy_s=1.0))
    machine.passes(2, 0.1)
    assert account.model_cpu_s == pytest.approx(4.5)
    assert (account.busy_s, account.outside_bytes) == (5.0, 500)


def test_what_is_measured_late_is_not_charged_twice() -> None:
    machine = Machine()
    one, other = machine.meter.account(ORIGIN), machine.meter.account(Origin("other", "retail", "l", "m", 1, "c"))
    one.engines.append(late := Engine())
    for _ in range(3):
        other.own_s += 0.1
        machine.passes(2, 2.0)
    late.thread_cpu_s = 5.0  # it was known only now, and was shared out by what others did
    for _ in range(3):
        other.own_s += 0.1
        machine.passes(2, 2.0)
    assert machine.shared_out == pytest.approx(machine.cpu)
    assert one.model_cpu_s == pytest.approx(5.0)


_SHORT = floats(0, 1, allow_subnormal=False)  # no clock tells 10^-320 seconds, and shares of that are no numbers


@given(
    steps=lists(
        tuples(
            floats(0, 5), floats(0, 5), _SHORT, _SHORT, floats(0.1, 5)
        ), min_size=1, max_size=20,
    )
)  # fmt: skip
def test_whatever_happens_the_accounts_and_the_overhead_are_what_the_process_used(
    steps: list[tuple[float, float, float, float, float]],
) -> None:
    machine = Machine()
    accounts = [machine.meter.account(Origin(name, "retail", "l", "m", 1, "c")) for name in ("a", "b")]
    engines = [Engine(), Engine()]
    for account, engine in zip(accounts, engines, strict=True):
        account.engines.append(engine)
    for in_thread, on_loop, own_a, own_b, took in steps:
        engines[0].thread_cpu_s += in_thread
        accounts[0].own_s += own_a
        accounts[1].own_s += own_b
        engines[1].inline_s += own_b
        machine.passes(took, in_thread + on_loop)
        assert machine.shared_out == pytest.approx(machine.cpu)


async def test_a_call_that_outlasts_several_looks_is_charged_once_and_to_its_own_version() -> None:
    read: list[float] = []
    go, burnt = threading.Semaphore(0), threading.Semaphore(0)

    def cpu() -> float:
        read.append(time.process_time())
        return read[-1]

    def burns(_: object) -> None:
        for _ in range(3):
            until = time.thread_time() + 0.2
            while time.thread_time() < until:
                pass
            burnt.release()
            go.acquire()

    meter = Meter(cpu)
    account, other = meter.account(ORIGIN), meter.account(Origin("other", "retail", "l", "m", 1, "c"))
    lane = Lane(Model(burns), LIMITS, joinable=True)
    account.charge(lane)
    before = meter.overhead_cpu_s
    calling = asyncio.create_task(lane.run({"x": np.ones(1)}, 1))
    for step in (1, 2, 3):
        await asyncio.to_thread(burnt.acquire)
        other.own_s += 0.1
        meter.settle()
        assert account.model_cpu_s >= 0.2 * step, "while the call goes on"
        go.release()
    await calling
    meter.settle()
    shared_out = sum(a.model_cpu_s + a.serving_cpu_s for a in meter.accounts) + meter.overhead_cpu_s - before
    assert shared_out == pytest.approx(read[-1] - read[0], abs=0.02)


def page(**amounts: float) -> dict[str, dict[str, Any]]:
    """What a process says of one version."""
    grown = dict.fromkeys(("inferences", "rows", "refused", "bytes_in", "bytes_out", "busy_s", "model_cpu_s",
                           "serving_cpu_s"), 0.0)  # fmt: skip
    return {"credit credit 1": {"endpoint": "credit", "memory_bytes": 10, **grown, **amounts}}


def test_a_period_is_what_all_processes_used_since_the_last_one_whatever_started_anew() -> None:
    pid, _, tick = life_of(os.getpid()).partition("-")
    here, gone = f"worker-0.{pid}-{tick}.json", "worker-1.4194305-1.json"
    ended, anew = f"streams.{pid}-{int(tick) - 1}.json", f"streams.{pid}-{tick}.json"
    before = {here: page(inferences=5, busy_s=1.0), ended: page(inferences=1)}
    after = {
        here: page(inferences=7, busy_s=1.5), gone: page(inferences=3), ended: page(inferences=1),
        anew: page(inferences=20),
    }  # fmt: skip
    (period,) = used(before, after)
    assert (period["inferences"], period["busy_s"]) == (2 + 3 + 20, 0.5)
    assert period["memory_bytes"] == 20, "a process that is gone has none, though another has its number"


SAMPLE = re.compile(r"(fairlead_scorer_\w+)\{(.*)\} (\S+)")


async def read(host: Host, name: str, **only: str) -> dict[str, float]:
    """A metric by endpoint and part, summed over processes."""
    async with httpx.AsyncClient() as client:
        page = (await client.get(f"{host.url}/metrics")).text
    found: dict[str, float] = defaultdict(float)
    for metric, said, value in SAMPLE.findall(page):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', said))
        if metric == f"fairlead_scorer_{name}" and only.items() <= labels.items():
            found[f"{labels['endpoint']} {labels.get('part', '')}".strip()] += float(value)
    return found


def family(host: Host) -> list[psutil.Process]:
    assert host.process
    return psutil.Process(host.process.pid).children(recursive=True)


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def ask(host: Host, endpoint: str, body: bytes, times: int) -> None:
    async with httpx.AsyncClient(headers=bearer(host.house.token()), timeout=30) as client:
        for _ in range(times):
            answer = await client.post(f"{host.url}/v2/models/{endpoint}/infer", content=body)
            assert answer.status_code == 200, answer.text


def many(count: int) -> bytes:
    values = np.random.default_rng(3).normal(size=(count, 3)).round(3).tolist()
    return orjson.dumps(rows(*values))


async def test_what_is_metered_is_what_the_processes_used(host: Host, clients: dict[str, Path]) -> None:
    light, dear, boxed = (f"{name}-{uuid4().hex[:8]}" for name in ("light", "dear", "boxed"))
    for endpoint in (light, dear):
        await host.deploy(endpoint, classifier())
    digest = await Objects(host.house.settings).put(package(skops_classifier(), "model.skops", format="sklearn"))
    await host.say(host.house.change(boxed, host.house.variant(boxed, digest, format="sklearn")))
    for endpoint in (light, dear, boxed):
        await host.serves(endpoint)
    everybody = family(host)
    worker = next(p for p in everybody if "services.scorer.worker" in p.cmdline())
    sandbox = next(p for p in everybody if "services.kit.sandbox.worker" in p.cmdline())
    await asyncio.sleep(5)  # nobody asks meanwhile
    before, used, own, box = await read(host, "cpu_seconds_total"), cpu_s(everybody), cpu_s([worker]), cpu_s([sandbox])
    came = await read(host, "bytes_in_total")
    bodies = {light: many(1), dear: many(2000), boxed: many(500)}
    times = {light: 900, dear: 500, boxed: 600}
    listening = ScorerSettings(home=host.house.home, kafka_properties=clients["operator"])

    def is_told(event: UsageReported) -> bool:
        return (
            event.endpoint == boxed and event.inferences > 0 and event.model_cpu_s > 0
        )  # not one before anybody asked

    async with expect_events(listening, UsageReported, within=30, where=is_told) as seen:
        await asyncio.gather(*(ask(host, name, body, times[name]) for name, body in bodies.items()))
    after_worker = cpu_s([worker, sandbox]) - own - box
    by_worker = await read(host, "cpu_seconds_total", process="worker-0")
    metered: dict[str, float] = {}

    async def adds_up() -> bool:
        """What every process wrote of itself is two seconds old at most, so it may take a moment."""
        now_used = cpu_s(everybody) - used
        metered.update({k: v - before.get(k, 0.0) for k, v in (await read(host, "cpu_seconds_total")).items()})
        return sum(metered.values()) == pytest.approx(now_used, rel=0.1)

    await eventually(adds_up, within=20, every=1.0)
    assert metered[f"{boxed} model"] == pytest.approx(cpu_s([sandbox]) - box, rel=0.1, abs=0.05)
    assert sum(metered[f"{dear} {part}"] for part in ("model", "serving")) > 2 * sum(
        metered[f"{light} {part}"] for part in ("model", "serving")
    )
    of_endpoints = sum(value - before.get(key, 0.0) for key, value in by_worker.items() if key != "overhead")
    assert of_endpoints == pytest.approx(after_worker, rel=0.25), "what nobody is charged for is small under load"
    bytes_in = await read(host, "bytes_in_total")
    assert {n: bytes_in[n] - came[n] for n in bodies} == {n: len(b) * times[n] for n, b in bodies.items()}
    memory = await read(host, "memory_bytes", process="worker-0")
    assert sum(memory.values()) == pytest.approx(worker.memory_info().rss + sandbox.memory_info().rss, rel=0.1)
    assert memory[f"{boxed} sandbox"] == pytest.approx(sandbox.memory_info().rss, rel=0.1)
    said = seen.of(UsageReported)
    assert all(event.model == "credit" and event.memory_bytes > 0 and event.since < event.until for event in said)
    assert 0 < sum(event.inferences for event in said) <= times[boxed] + 1
    assert sum(event.model_cpu_s for event in said) > 0
