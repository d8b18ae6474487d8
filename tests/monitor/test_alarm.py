"""The governor raises and ends the alert of a drift; that a person accepted what is seen it hears from the monitor."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from sqlalchemy import text

from contracts import AlertResolved, DeploymentChanged, DriftDetected, FeatureEvidence, Service, Window
from services.kit.alerts import alert_id
from services.kit.compacted import Change
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.ids import uuid7
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.monitor import store
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
        window=Window(**{"from": AT, "to": AT + timedelta(seconds=10)}, rows=100), since=AT,
        detector="e", statistic=20.0,
        budget_rows=1_000, rows_watched=100, features=(moved,), retrain=True,
    )  # fmt: skip


def _change(told: DeploymentChanged | None) -> Change[DeploymentChanged]:
    return Change("sizes", told, None, 0)


@pytest.fixture
async def house(service_db: Callable[[Service], Database], tmp_path: object) -> "House":
    db = service_db("monitor")
    house = House(db, Desired(db, Versions(db, Objects(Settings(home=tmp_path)))))  # pyright: ignore[reportArgumentType]
    await house.desired.learn(_change(deployment("sizes", streams.schema(), None)))
    with use(Context(system("monitor", "retail"))):
        async with db.transaction() as tx:
            await store.add_finding(tx.session, uuid7(), "retail", "alarm", AT, drift("sizes"))
    return house


class House:
    """A monitor that has found a drift."""

    def __init__(self, db: Database, desired: Desired) -> None:
        self.db = db
        self.desired = desired

    async def ends(self) -> list[object]:
        """The reasons for which the alert was said to be over."""
        async with self.db.chassis() as session:
            select = text("SELECT value FROM outbox WHERE topic = :t ORDER BY number")
            said = [orjson.loads(v) for v in await session.scalars(select, {"t": AlertResolved.topic.name})]
        assert all(each["alert_id"] == str(alert_id("drift", "sizes")) for each in said)
        return [each["reason"] for each in said]


async def test_who_accepts_what_is_seen_ends_the_alert_once(house: House) -> None:
    with use(ENGINEER):
        await house.desired.accept("sizes", "a new branch opened")
        await house.desired.accept("sizes", "said twice")
    assert await house.ends() == ["a new branch opened"]


@pytest.mark.parametrize(
    "told",
    [
        deployment("sizes", streams.schema(), None, version=2, revision=2),
        deployment("sizes", streams.schema(), None, revision=2, state="removed"),
        None,
    ],
)
async def test_what_the_governor_knows_by_itself_closes_the_alarm_in_silence(
    house: House, told: DeploymentChanged | None
) -> None:
    await house.desired.learn(_change(told))
    async with house.db.chassis() as session:
        assert (
            await session.execute(text("SELECT 1 FROM finding WHERE kind = 'alarm' AND closed_at IS NULL"))
        ).first() is None
    assert await house.ends() == []
