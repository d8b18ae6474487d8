"""An alarm is an alert: raised with the drift, resolved when the alarm is closed, whoever closes it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from sqlalchemy import text

from contracts import AlertRaised, AlertResolved, DeploymentChanged, DriftDetected, FeatureEvidence, Service, Window
from services.kit.alerts import alert_id
from services.kit.compacted import Change
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.ids import uuid7
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.monitor import store
from services.monitor.usecases import alarm
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import deployment

AT = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))


def drift(endpoint: str) -> DriftDetected:
    moved = FeatureEvidence(name="size", effect=0.4, interval=(0.3, 0.5), tolerance=0.1)
    return DriftDetected(
        endpoint=endpoint, use_case="benefits", model="census-employment", version=1,
        window=Window(**{"from": AT, "to": AT + timedelta(seconds=10)}, rows=100), since=AT, detector="e", statistic=20.0,
        budget_rows=1_000, rows_watched=100, features=(moved,), retrain=True,
    )  # fmt: skip


def _change(told: DeploymentChanged | None) -> Change[DeploymentChanged]:
    return Change("sizes", told, None, 0)


@pytest.fixture
async def house(service_db: Callable[[Service], Database], tmp_path: object) -> "House":
    db = service_db("monitor")
    house = House(db, Desired(db, Versions(db, Objects(Settings(home=tmp_path)))))  # type: ignore[arg-type]
    await house.desired.learn(_change(deployment("sizes", streams.schema(), None)))
    with use(Context(system("monitor", "retail"))):
        async with db.transaction() as tx:
            alarm.begin(tx, drift("sizes"), "retail")
            await store.add_finding(tx.session, uuid7(), "retail", "alarm", AT, drift("sizes"))
    return house


class House:
    """A monitor that has found a drift."""

    def __init__(self, db: Database, desired: Desired) -> None:
        self.db = db
        self.desired = desired

    async def said(self, kind: type[AlertRaised] | type[AlertResolved]) -> list[dict[str, object]]:
        async with self.db.chassis() as session:
            rows = await session.execute(
                text("SELECT value, headers FROM outbox WHERE topic = :t ORDER BY number"), {"t": kind.topic.name}
            )
            return [orjson.loads(row.value) | {"unit": dict(row.headers)["ce_unit"]} for row in rows]

    async def ends(self) -> list[object]:
        """The reasons for which the alert was said to be over."""
        said = await self.said(AlertResolved)
        assert all(each["alert_id"] == str(alert_id("drift", "sizes")) and each["unit"] == "retail" for each in said)
        return [each["reason"] for each in said]


async def test_a_drift_is_an_alert_with_what_moved_and_what_to_do(house: House) -> None:
    (alert,) = await house.said(AlertRaised)
    assert (alert["alert_id"], alert["subject"], alert["unit"]) == (str(alert_id("drift", "sizes")), "sizes", "retail")
    assert "size by +0.40 sd" in str(alert["detail"]) and alert["todo"]


async def test_who_accepts_what_is_seen_ends_the_alert_once(house: House) -> None:
    with use(ENGINEER):
        await house.desired.accept("sizes", "a new branch opened")
        await house.desired.accept("sizes", "said twice")
    assert await house.ends() == ["a new branch opened"]


async def test_another_version_ends_the_alert(house: House) -> None:
    await house.desired.learn(_change(deployment("sizes", streams.schema(), None, version=2, revision=2)))
    assert await house.ends() == ["version 2 serves"]


@pytest.mark.parametrize("told", [deployment("sizes", streams.schema(), None, revision=2, state="removed"), None])
async def test_an_endpoint_that_is_gone_ends_the_alert(house: House, told: DeploymentChanged | None) -> None:
    await house.desired.learn(_change(told))
    assert await house.ends() == ["the endpoint is removed"]
