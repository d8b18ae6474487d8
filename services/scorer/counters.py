"""What the processes of a host count, read out only when somebody looks."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .metering import Account, Meter
from .residency import Residency
from .settings import ScorerSettings
from .spool import Spool

_PER_VERSION = {
    "inferences": "Inferences answered",
    "rows": "Rows scored",
    "refused": "Requests refused",
    "faults": "Of them those that were right: too many at once, a model that is away, a log without room",
    "failed": "Requests that a version did not answer, and another did in its place",
    "shadow_dropped": "Copies that a shadow did not score: its queue was full, or the log had no room",
    "seconds": "Time from receipt to reply, summed over inferences",
    "lowered": "How often fewer rows were answered on the event loop than before, because calls were slow",
    "bytes_in": "Bytes of requests that were answered",
    "bytes_out": "Bytes of answers",
}
_LABELS = ["endpoint", "version"]
_CPU = "Processor time: of the model, of serving it, and of what served nobody, which has no endpoint"
_MEMORY = "Resident memory: that a model took of this process, of its own process, and all the rest, without endpoint"


class Usage(Collector):
    """What one process did for each version, and what it used for that."""

    def __init__(self, meter: Meter, residency: Residency | None) -> None:
        self._meter = meter
        self._residency = residency
        REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        """For Prometheus, when it asks; processor time is settled then."""
        self._meter.settle()
        accounts = [account for account in self._meter.accounts if account.used]
        for name, about in _PER_VERSION.items():
            family = CounterMetricFamily(f"fairlead_scorer_{name}", about, labels=_LABELS)
            for one in accounts:
                family.add_metric(_labels(one), float(getattr(one, name)))
            yield family
        busy = CounterMetricFamily("fairlead_scorer_model_seconds", "Time that models worked", labels=_LABELS)
        waiting = GaugeMetricFamily("fairlead_scorer_waiting", "Requests that wait for a busy model", labels=_LABELS)
        for one in accounts:
            busy.add_metric(_labels(one), one.busy_s)
            waiting.add_metric(_labels(one), sum(engine.waiting for engine in one.engines))
        yield from (busy, waiting, self._cpu(accounts), self._memory(accounts))
        if self._residency:
            yield from self._models(self._residency)

    def _models(self, residency: Residency) -> Iterator[Metric]:
        models = GaugeMetricFamily("fairlead_scorer_models", "Models in memory, and those loaded when they are asked",
                                   labels=["state"])  # fmt: skip
        models.add_metric(["loaded"], residency.loaded)
        models.add_metric(["cold"], residency.cold)
        yield models
        yield CounterMetricFamily("fairlead_scorer_model_loads", "Models loaded", residency.loads)
        yield CounterMetricFamily("fairlead_scorer_model_evictions", "Models closed for others", residency.evictions)

    def _cpu(self, accounts: list[Account]) -> Metric:
        family = CounterMetricFamily("fairlead_scorer_cpu_seconds", _CPU, labels=[*_LABELS, "part"])
        for one in accounts:
            family.add_metric([*_labels(one), "model"], one.model_cpu_s)
            family.add_metric([*_labels(one), "serving"], one.serving_cpu_s)
        family.add_metric(["", "", "overhead"], self._meter.overhead_cpu_s)
        return family

    def _memory(self, accounts: list[Account]) -> Metric:
        family = GaugeMetricFamily("fairlead_scorer_memory_bytes", _MEMORY, labels=[*_LABELS, "part"])
        for one in accounts:
            family.add_metric([*_labels(one), "model"], one.inside_bytes)
            family.add_metric([*_labels(one), "sandbox"], one.outside_bytes)
        family.add_metric(["", "", "overhead"], self._meter.overhead_bytes)
        return family


@asynccontextmanager
async def metering(
    meter: Meter, settings: ScorerSettings, process: str, residency: Residency | None = None
) -> AsyncIterator[None]:
    """Show what this process uses, and write it down, as long as the block lasts."""
    usage = Usage(meter, residency)
    publishing = asyncio.create_task(meter.publish(settings.run_folder, process))
    try:
        yield
    finally:
        publishing.cancel()
        await asyncio.wait([publishing])
        REGISTRY.unregister(usage)


def _labels(account: Account) -> list[str]:
    return [account.origin.endpoint, str(account.origin.version)]


class Counters(Collector):
    """Plain numbers on the way, Prometheus families at a scrape."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._statuses: dict[int, int] = {}
        self.dropped = 0
        self.left = 0
        """Requests that were not answered since their callers had gone."""
        REGISTRY.register(self)

    def refused(self, status: int) -> None:
        """A request was answered with this status instead of an inference."""
        self._statuses[status] = self._statuses.get(status, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """For Prometheus, when it asks: the counts stay where they are made."""
        errors = CounterMetricFamily("fairlead_scorer_errors", "Requests answered with an error", labels=["status"])
        for status, count in self._statuses.items():
            errors.add_metric([str(status)], count)
        yield errors
        yield CounterMetricFamily("fairlead_scorer_spooled", "Inferences written to the spool", self._spool.appended)
        yield CounterMetricFamily("fairlead_scorer_dropped", "Inferences answered without a log", self.dropped)
        yield CounterMetricFamily("fairlead_scorer_left", "Requests given up: their callers hung up", self.left)
        yield CounterMetricFamily("fairlead_scorer_torn_bytes", "Unfinished records cut", self._spool.torn_bytes)
        yield GaugeMetricFamily("fairlead_scorer_spool_bytes", "Bytes of this slot's spool", self._spool.used)
