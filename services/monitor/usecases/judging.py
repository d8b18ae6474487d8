"""Judges performance: one owner per endpoint shows the labels that came to the test, and says what it found."""

from math import log

from contracts import DriftDetected, PerformanceEvidence, Window
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import NotFound
from services.kit.ids import now, uuid7

from .. import metrics, store
from ..domain.budget import of_performance
from ..domain.outcomes.loss import NAME, LossBlock, LossFinding, LossWatch
from ..domain.windows import moment
from ..store import Endpoint, losses
from . import choosing, costing
from .owning import every, owned


class Judging:
    """The owner's work: each endpoint's new labels in one transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def judge(self) -> dict[str, str]:
        """All that came; answers by endpoint why it failed, where it did. The next round tries again."""
        with use(Context(system("monitor"))):
            async with self._db.reading() as session:
                waiting = await losses.waiting(session)
        return await every("labels", waiting, self._judge)

    async def _judge(self, one: tuple[str, str]) -> None:
        name, unit = one
        async with owned(self._db, name, unit) as tx:
            if tx is None:
                return
            try:
                endpoint = await store.endpoint(tx.session, name)
            except NotFound:  # of an endpoint that no deployment has named yet: there is nothing to watch
                await losses.take(tx.session, name, 0)
                return
            await self._observe(tx, endpoint)

    async def _observe(self, tx: Tx, endpoint: Endpoint) -> None:
        settings = endpoint.settings
        threshold = log(of_performance(endpoint.budget_rows))
        watch = await losses.watch(tx.session, endpoint.endpoint, endpoint.version)
        taken = await losses.take(tx.session, endpoint.endpoint, endpoint.version)
        for task, block in taken:
            if watch is None or watch.task != task:
                watch = LossWatch(task)
            watch = watch.observe(block, threshold, settings.expected_error)
            watch, finding = watch.judge(settings.tolerance, settings.expected_error)
            if finding:
                await self._say(tx, endpoint, finding)
        if watch:
            await losses.save_watch(tx.session, endpoint, watch)
            await self._chosen(tx, endpoint, watch, [block for task, block in taken if task == watch.task])

    async def _chosen(self, tx: Tx, endpoint: Endpoint, watch: LossWatch, blocks: list[LossBlock]) -> None:
        found = await choosing.observe_labels(tx, endpoint, watch.task, blocks)
        told = found and await store.open_alarm(tx.session, endpoint.endpoint, "performance")
        if found and not told and watch.phase != "alarmed":
            await self._say(tx, endpoint, found[0], found[1].name)

    async def _say(self, tx: Tx, endpoint: Endpoint, finding: LossFinding, detector: str = NAME) -> None:
        event = _event(endpoint, finding, detector, *await costing.of_errors(tx, endpoint, finding.effect))
        if finding.kind == "alarm":
            await store.close_alarms(tx.session, endpoint.endpoint, "newer evidence tells it", "performance")
            tx.emit(event, detail={"since": event.since.isoformat(), "feature": finding.effect.metric})
        await store.add_finding(tx.session, uuid7(), endpoint.unit, finding.kind, now(), event, dimension="performance")
        tx.then.append(metrics.FOUND.labels(endpoint.endpoint, f"performance {finding.kind}").inc)


def _event(
    endpoint: Endpoint, finding: LossFinding, detector: str, cost_per_1000: float | None, rows_a_day: float | None
) -> DriftDetected:
    effect, settings = finding.effect, endpoint.settings
    since, rows = moment(finding.since_s), effect.now.rows
    evidence = PerformanceEvidence(
        metric=effect.metric, before=effect.before, now=effect.now.value,
        interval=(effect.now.low, effect.now.high), labelled=rows,
        cost_per_1000=cost_per_1000, rows_a_day=rows_a_day,
    )  # fmt: skip
    return DriftDetected(
        endpoint=endpoint.endpoint, use_case=endpoint.use_case, model=endpoint.model, version=endpoint.version,
        window=Window(**{"from": since, "to": max(since, now())}, rows=rows), since=since, detector=detector,
        statistic=finding.statistic, budget_rows=settings.budget_rows, rows_watched=rows,
        features=(effect.evidence(settings.tolerance),),
        retrain=settings.retrain_on_drift, performance=evidence,
    )  # fmt: skip
