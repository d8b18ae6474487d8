"""What a worker counts, read out only when somebody looks."""

from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .dataplane import DataPlane
from .spool import Spool

_PER_VERSION = {
    "inferences": "Inferences answered",
    "rows": "Rows scored",
    "refused": "Requests refused",
    "failed": "Requests that a version did not answer, and another did in its place",
    "shadow_dropped": "Copies that a shadow did not score: its queue was full, or the log had no room",
    "seconds": "Time from receipt to reply, summed over inferences",
}


class Counters(Collector):
    """Plain numbers on the way, Prometheus families at a scrape."""

    def __init__(self, plane: DataPlane, spool: Spool) -> None:
        self._plane = plane
        self._spool = spool
        self._statuses: dict[int, int] = {}
        self.dropped = 0
        REGISTRY.register(self)

    def refused(self, status: int) -> None:
        """A request was answered with this status instead of an inference."""
        self._statuses[status] = self._statuses.get(status, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """For Prometheus, when it asks: the counts stay where they are made."""
        served = [one for endpoint in self._plane.endpoints.values() for one in endpoint.by_version.values()]
        for name, about in _PER_VERSION.items():
            family = CounterMetricFamily(f"fairlead_scorer_{name}", about, labels=["endpoint", "version"])
            for one in served:
                family.add_metric([one.origin.endpoint, str(one.origin.version)], float(getattr(one.counts, name)))
            yield family
        busy = CounterMetricFamily("fairlead_scorer_model_seconds", "Time that models worked",
                                   labels=["endpoint", "version"])  # fmt: skip
        waiting = GaugeMetricFamily("fairlead_scorer_waiting", "Requests that wait for a busy model",
                                    labels=["endpoint", "version"])  # fmt: skip
        for one in served:
            labels = [one.origin.endpoint, str(one.origin.version)]
            busy.add_metric(labels, one.lane.busy_s)
            waiting.add_metric(labels, one.lane.waiting)
        yield busy
        yield waiting
        errors = CounterMetricFamily("fairlead_scorer_errors", "Requests answered with an error", labels=["status"])
        for status, count in self._statuses.items():
            errors.add_metric([str(status)], count)
        yield errors
        yield CounterMetricFamily("fairlead_scorer_spooled", "Inferences written to the spool", self._spool.appended)
        yield CounterMetricFamily("fairlead_scorer_dropped", "Inferences answered without a log", self.dropped)
        yield CounterMetricFamily("fairlead_scorer_torn_bytes", "Unfinished records cut", self._spool.torn_bytes)
        yield GaugeMetricFamily("fairlead_scorer_spool_bytes", "Bytes of this slot's spool", self._spool.used)
