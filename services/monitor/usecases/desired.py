"""What is watched: follows `deployment.changed`, and the settings that people give."""

from collections.abc import Callable
from typing import Any

from contracts import DeploymentChanged
from services.kit.compacted import Change
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import Outdated
from services.kit.rules import check_rules

from .. import store
from ..domain import season
from ..domain.segments import LEAST_ROWS
from ..store import Endpoint, chosen, losses
from ..store.findings import Table
from . import ruling, usability
from .ending import end_alarms
from .versions import Versions

_ACCEPTED: dict[Table, int] = {"watch": 1, "group_watch": LEAST_ROWS, "attribution_watch": 1}
"""What becomes the new normal, of whatever has so many rows."""


def _whatever(_: Endpoint) -> bool:
    return True


class Desired:
    """Endpoints as the deployer wants them, with overrides."""

    def __init__(self, db: Database, versions: Versions) -> None:
        self._db = db
        self._versions = versions

    async def learn(self, change: Change[DeploymentChanged]) -> None:
        """Take over an endpoint's new state. A new version is watched anew, against its own baseline."""
        if change.event is None:
            await self._forget(change.key)
        else:
            await self._take_over(change.event)
        await self._versions.refresh()

    async def _take_over(self, event: DeploymentChanged) -> None:
        with use(Context(system("monitor", event.unit))):
            async with self._db.transaction() as tx:
                await store.lock(tx.session, event.endpoint)
                before = await store.serving(tx.session, event.endpoint)
                if not await store.save_desired(tx.session, event):
                    return
                after = await store.serving(tx.session, event.endpoint)
                if before is not None and before != after:
                    await store.drop_watch(tx.session, event.endpoint)
                    serves = f"version {after[1]} serves" if after and after[1] else "the endpoint is removed"
                    await store.close_alarms(tx.session, event.endpoint, serves)
                    await usability.drop(tx, event.endpoint, event.unit, serves)
                await self._settle(tx, event)

    async def _settle(self, tx: Tx, event: DeploymentChanged) -> None:
        """What the deployment says of rules holds, but for what a person set."""
        found = await store.endpoint(tx.session, event.endpoint)
        if found.serving:
            await ruling.settle(tx, event.endpoint, event.unit, found.settings.rules)
        else:
            await ruling.settle(tx, event.endpoint, event.unit, why="the endpoint is removed")

    async def _forget(self, name: str) -> None:
        with use(Context(system("monitor"))):
            async with self._db.transaction() as tx:
                await store.lock(tx.session, name)
                unit = await store.stop_serving(tx.session, name)
                await store.close_alarms(tx.session, name, "the endpoint is removed")
                if unit:
                    await usability.drop(tx, name, unit, "the endpoint is removed")
                    await ruling.settle(tx, name, unit, why="the endpoint is removed")

    async def configure(
        self, name: str, changed: dict[str, Any], seen: Callable[[Endpoint], bool] = _whatever, *, keep: bool = True
    ) -> Endpoint:
        """Override some settings of an endpoint; of None the deployments are followed again. Answers what holds then;
        without `keep` it stays as it was.

        Raises NotFound, Outdated where it is not as the caller has `seen` it, Invalid for a season of a few windows and
        for a rule that cannot be evaluated.
        """
        async with self._db.transaction() as tx:
            await store.lock(tx.session, name)
            found = await store.endpoint(tx.session, name)
            if not seen(found):
                raise Outdated(f"how {name} is watched was changed at {found.changed_at:%Y-%m-%d %H:%M:%S} UTC")
            after = found.changed(changed)
            season.check(after.settings.season_s, after.settings.window_s)
            if changed.get("rules") and (row := await store.version(tx.session, name, found.version)):
                check_rules(after.settings.rules, row.schema, "rules")
            if not keep:
                return after
            await store.override(tx.session, name, after.override)
            await ruling.settle(tx, name, found.unit, after.settings.rules)
            tx.record("monitor.configured", name, unit=found.unit, **{n: _scalar(v) for n, v in changed.items()})
            # Under an Idempotency-Key the commit comes with the answer, when this has long returned.
            tx.then.append(self._versions.outdate)
            return await store.endpoint(tx.session, name)

    async def accept(self, name: str, reason: str) -> Endpoint:
        """Take what is seen now as the new normal: the open alarm is closed, watching begins anew. Raises NotFound.

        The governor, which raises the alert of a drift, knows of every other end of it by itself.
        """
        async with self._db.transaction() as tx:
            await store.lock(tx.session, name)
            found = await store.endpoint(tx.session, name)
            for table, least_rows in _ACCEPTED.items():
                if state := await store.watch(tx.session, name, found.version, table):
                    await store.save_watch(tx.session, found, state.accepted(least_rows), table)
            if labels := await losses.watch(tx.session, name, found.version):
                await losses.save_watch(tx.session, found, labels.accepted())
            await chosen.drop(tx.session, name)
            await usability.accept(tx, found, reason)
            await end_alarms(tx, found, reason)
            tx.record("monitor.accepted", name, unit=found.unit, reason=reason)
        return found


def _scalar(value: Any) -> str | float | bool:
    """As an audit row holds it."""
    if value is None:
        return "as deployed"
    return value if isinstance(value, str | int | float | bool) else str(value)
