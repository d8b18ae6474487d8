"""Retention on real PostgreSQL: what is too old goes, with all that hangs on it, and nothing else."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import OutcomeReported, Service
from services.kit.burial import Burial
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.errors import Invalid
from services.kit.objects import Objects
from services.kit.settings import Settings
from services.kit.stream import PartitionBatch, Record
from services.kit.testing import eventually
from services.recorder import metrics, store
from services.recorder.domain.layout import Head
from services.recorder.domain.outcomes import Known, Report
from services.recorder.files import Files
from services.recorder.store import lookup, patience
from services.recorder.usecases import snapshots
from services.recorder.usecases.joining import Joining
from services.recorder.usecases.retention import Retention
from services.recorder.usecases.schemas import Schemas
from services.recorder.usecases.upkeep import Upkeep

Databases = Callable[[Service], Database]
KEPT = timedelta(days=30)
AT = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("as_the_recorder")


def decision(id: str, endpoint: str, unit: str, age: timedelta) -> Head:
    return Head(id, endpoint, unit, "benefits", "census", 1, "champion", "rest", "application", None, None, None,
                datetime.now(UTC) - age, 0.8, 1)  # fmt: skip


async def add(db: Database, *heads: Head) -> str:
    """One file of some decisions of one endpoint; answers its path."""
    first, path = heads[0], f"endpoint={heads[0].endpoint}/{heads[0].inference_id}.parquet"
    async with db.transaction() as tx:
        await store.add_file(tx.session, store.NewFile(path, first.endpoint, first.unit, 0, 0, 1, len(heads), heads))
    return path


async def remaining(db: Database, table: str) -> set[str]:
    async with db.reading() as session:
        return set(await session.scalars(text(f"SELECT inference_id FROM {table}")))


@pytest.mark.parametrize(("endpoint", "unit"), [("employment", "retail"), ("credit", "wealth")])
async def test_what_is_older_than_the_limit_goes_in_every_unit_and_nothing_younger(
    service_db: Databases, endpoint: str, unit: str
) -> None:
    db, second = service_db("recorder"), timedelta(minutes=1)
    old = await add(db, decision("old", endpoint, unit, KEPT + second))
    await add(db, decision("young", endpoint, unit, KEPT - second))
    # A file is as young as its youngest row.
    await add(db, decision("in-young-file", endpoint, unit, KEPT + second), decision("mate", endpoint, unit, second))
    await add(db, decision("elsewhere", "another", "another-unit", KEPT - second))
    async with db.transaction() as tx:
        await store.report(tx.session, [Report(id, 0, 1.0, None, "somebody", None) for id in ("old", "young", "unmet")])
    async with db.transaction() as tx:
        assert await store.forget(tx.session, KEPT) == 1
    async with db.reading() as session:
        assert [place.path for _, place in await store.removing(session)] == [old]
    assert await remaining(db, "decision") == {"young", "in-young-file", "mate", "elsewhere"}
    assert await remaining(db, "outcome") == {"young", "unmet"}


@pytest.fixture
def house(service_db: Databases, tmp_path: Path) -> "House":
    return House(service_db("recorder"), tmp_path)


class House:
    """A recorder's books and its disk."""

    def __init__(self, db: Database, root: Path) -> None:
        self.db = db
        self.root = root
        objects = Objects(Settings(home=root.parent))
        self.retention = Retention(db, Upkeep(db, Files(root), objects), KEPT)

    async def add(self, id: str) -> Path:
        """A decision that is too old; answers where its file lies."""
        place = (
            self.root
            / "inferences"
            / await add(self.db, decision(id, "employment", "retail", KEPT + timedelta(days=1)))
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        return place

    async def forget_all(self) -> None:
        while await self.retention.forget():
            pass

    async def files(self) -> int:
        async with self.db.reading() as session:
            return await session.scalar(text("SELECT count(*) FROM file")) or 0


async def test_no_file_goes_before_the_books_say_so(house: House, database: str) -> None:
    place = await house.add("old")
    administrator = await asyncpg.connect(database)
    await administrator.execute("ALTER TABLE recorder.outbox ADD CONSTRAINT broken CHECK (false) NOT VALID")
    with pytest.raises(IntegrityError):
        await house.forget_all()
    assert await remaining(house.db, "decision") == {"old"} and place.exists()
    await administrator.execute("ALTER TABLE recorder.outbox DROP CONSTRAINT broken")
    await administrator.close()
    await house.forget_all()
    assert await remaining(house.db, "decision") == set() and not place.exists() and await house.files() == 0


async def test_what_a_killed_recorder_took_out_of_the_books_leaves_the_disk_later(house: House) -> None:
    place = await house.add("old")
    async with house.db.transaction() as tx:
        await store.forget(tx.session, KEPT)
    assert place.exists()
    await house.forget_all()
    assert not place.exists() and await house.files() == 0


async def test_a_file_that_cannot_be_removed_stops_no_other_and_is_not_forgotten(house: House) -> None:
    stuck, plain = await house.add("stuck"), await house.add("plain")
    stuck.unlink()
    stuck.mkdir()
    await house.forget_all()
    assert not plain.exists() and await house.files() == 1
    stuck.rmdir()
    await house.forget_all()
    assert await house.files() == 0


async def test_an_outcome_waits_for_its_inference_as_long_as_the_limit_and_no_longer(service_db: Databases) -> None:
    db = service_db("recorder")
    async with db.transaction() as tx:
        await store.report(tx.session, [Report(id, 0, 1.0, None, "somebody", None) for id in ("old", "young")])
        aged = "UPDATE outcome SET reported_at = now() - interval '30 days 1 minute' WHERE inference_id = 'old'"
        await tx.session.execute(text(aged))
    async with db.transaction() as tx:
        assert [outcome.inference_id for outcome in await store.expired(tx.session, KEPT)] == ["old"]
        assert await store.expired(tx.session, KEPT) == [] and await store.forget_expired(tx.session, KEPT) == 0
        assert await store.count_unmet(tx.session) == {"waiting": 1, "expired": 1}
        await tx.session.execute(text("UPDATE outcome SET observed_at = now() - interval '30 days 1 minute'"))
        assert await store.forget_expired(tx.session, KEPT) == 1
    assert await remaining(db, "outcome") == {"young"}


async def test_of_outcomes_said_together_the_last_of_a_row_counts_and_a_repeat_is_none(service_db: Databases) -> None:
    db, id = service_db("recorder"), uuid4().hex
    said = [
        Report(id, 0, "no", None, "somebody", frozenset({"retail"})), Report(id, 1, None, 2.5, "somebody", None),
        Report(id, 0, "yes", None, "somebody", frozenset({"retail"})), Report(id, 1, None, 2.5, "another", None),
    ]  # fmt: skip
    async with db.transaction(unit="*") as tx:
        assert await store.report(tx.session, said) == store.Kept(new=2, repeated=1, withheld=0)
        assert await store.report(tx.session, said[1:]) == store.Kept(new=0, repeated=3, withheld=0)
        assert await store.report(tx.session, []) == store.Kept(0, 0, 0)
        kept = await tx.session.execute(
            text('SELECT label, value, units FROM outcome WHERE inference_id = :id ORDER BY "row"'), {"id": id}
        )
        assert [tuple(row) for row in kept] == [("yes", None, ["retail"]), (None, 2.5, None)]


@pytest.mark.parametrize("stands", [True, False])
async def test_a_value_keeps_the_label_and_a_later_label_replaces_it(stands: bool, service_db: Databases) -> None:
    db, id, retail = service_db("recorder"), uuid4().hex, frozenset({"retail"})
    label, value = Report(id, 0, 1.0, None, "x", retail), Report(id, 0, None, 99.5, "x", retail)
    async with db.transaction(unit="*") as tx:
        await store.report(tx.session, [label])
        if stands:
            await store.settle(tx.session, [Known(label, "retail", "employment", 1, 1, AT)], [None], AT)
        value = replace(value, units=frozenset({"retail", "cards"}) if stands else retail)
        assert await store.report(tx.session, [value]) == store.Kept(new=1, repeated=0, withheld=0)
        assert await said_of(tx.session, id) == (1.0, 99.5)
        assert await store.report(tx.session, [value, label]) == store.Kept(new=0, repeated=1, withheld=0)
        await store.report(tx.session, [replace(label, label=0.0)])
        assert await said_of(tx.session, id) == (0.0, 99.5)


async def test_nothing_is_kept_of_what_another_unit_said_before_the_inference_came(service_db: Databases) -> None:
    db, id = service_db("recorder"), uuid4().hex
    foreign = Report(id, 0, 1.0, None, "x", frozenset({"wealth"}))
    async with db.transaction(unit="*") as tx:
        await store.report(tx.session, [foreign])
        await store.report(tx.session, [replace(foreign, label=None, value=99.5, units=frozenset({"retail"}))])
        assert await said_of(tx.session, id) == (None, 99.5)


async def said_of(session: AsyncSession, id: str) -> tuple[object, object]:
    row = (await session.execute(text("SELECT label, value FROM outcome WHERE inference_id = :id"), {"id": id})).one()
    return row.label, row.value


async def test_what_another_unit_says_of_a_known_outcome_is_withheld_and_no_repeat(service_db: Databases) -> None:
    db, id = service_db("recorder"), uuid4().hex
    own, foreign = (
        Report(id, 0, label, None, "x", frozenset({unit})) for label, unit in ((1.0, "retail"), (0.0, "wealth"))
    )
    async with db.transaction(unit="*") as tx:
        await store.report(tx.session, [own])
        await store.settle(tx.session, [Known(own, "retail", "employment", 1, 1, AT)], [None], AT)
        assert await store.report(tx.session, [foreign]) == store.Kept(new=0, repeated=0, withheld=1)


async def test_two_who_report_the_same_rows_do_not_wait_for_each_other(service_db: Databases) -> None:
    db = service_db("recorder")
    first, second = (Report(id, 0, 1.0, None, "somebody", None) for id in ("a", "b"))

    async def backwards() -> None:
        with use(Context(system("recorder"))):
            async with db.transaction(unit="*") as tx:
                await store.report(tx.session, [second, first])

    async with db.transaction(unit="*") as tx:
        await store.report(tx.session, [first])
        other = asyncio.create_task(backwards())
        assert await eventually(lambda: _somebody_waits(db), within=10)
        await store.report(tx.session, [second])
    await other
    assert await remaining(db, "outcome") == {"a", "b"}


async def _somebody_waits(db: Database) -> bool:
    async with db.reading() as session:
        return bool(await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


async def test_the_join_is_woken_by_outcomes_that_it_can_see(service_db: Databases, tmp_path: Path) -> None:
    db = service_db("recorder")
    joining = Joining(db, Files(tmp_path), Schemas(db), Burial(Settings(home=tmp_path), "recorder"), frozenset())
    record = Record(0, 0, b"one", OutcomeReported(inference_id="one", label=1.0).to_json(), ())
    async with db.transaction() as tx:
        await joining.fold(tx, PartitionBatch("outcome.reported", 0, 0, 1, 1, [record]))
        assert not joining.reported.is_set()
    assert joining.reported.is_set()


async def test_decisions_to_freeze_are_read_from_the_books_in_pages_and_each_once(
    service_db: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = service_db("recorder")
    monkeypatch.setattr(snapshots, "_PAGE", 2)
    for n in range(5):
        await add(db, decision(f"d{n}", "employment", "retail", timedelta(minutes=n // 2)))
    made = snapshots.Snapshots(db, Files(tmp_path), Objects(Settings(home=tmp_path)), 10)
    order = await made._order("employment", "census", None, None)
    assert sorted(order.ids) == [f"d{n}" for n in range(5)] and order.ids[0] == "d4" and len(order.files) == 5


async def test_outcomes_are_counted_once_they_are_committed(service_db: Databases, tmp_path: Path) -> None:
    db = service_db("recorder")
    joining = Joining(db, Files(tmp_path), Schemas(db), Burial(Settings(home=tmp_path), "recorder"), frozenset())
    record = Record(0, 0, b"one", OutcomeReported(inference_id="one", label=1.0).to_json(), ())
    batch = PartitionBatch("outcome.reported", 0, 0, 1, 1, [record])
    counter = metrics.OUTCOMES.labels("reported")
    before = counter._value.get()
    with pytest.raises(ConnectionError):
        async with db.transaction() as tx:
            await joining.fold(tx, batch)
            raise ConnectionError("PostgreSQL is away")
    assert counter._value.get() == before
    async with db.transaction() as tx:
        await joining.fold(tx, batch)
    assert counter._value.get() == before + 1


async def test_a_small_units_list_reads_its_own_decisions_and_nobody_elses(service_db: Databases) -> None:
    db, minute = service_db("recorder"), timedelta(minutes=1)
    for unit, count, age in (("wealth", 40, 20_000), ("cards", 40, 30_000), ("retail", 5_000, 0)):
        await add(db, *(decision(f"{unit}-{n:04}", unit, unit, (age + n) * minute) for n in range(count)))
    async with db.engine.connect() as connection:
        await connection.exec_driver_sql("ANALYZE recorder.decision")
    seen = ["cards", "wealth"]
    async with db.reading(",".join(seen)) as session:
        found = await store.decisions(session, store.Wanted(), None, 50, seen)
        select, values = lookup.question(store.Wanted(), None, 50, seen)
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {select}"
        plan = (await session.execute(text(explained), values)).scalar_one()[0]["Plan"]
    assert [each.inference_id for each in found] == [f"wealth-{n:04}" for n in range(40)] + [
        f"cards-{n:04}" for n in range(10)
    ]
    assert _read(plan) <= 80 * 2, "of 5,080"


async def followed(db: Database) -> None:
    """Decisions of two units, a minute apart; of a few of the oldest something followed."""
    for unit in ("retail", "wealth"):
        heads = [decision(f"{unit}-{n:04}", unit, unit, n * timedelta(minutes=1)) for n in range(2_000)]
        shadow = replace(decision(f"{unit}-shadow", unit, unit, timedelta(minutes=1_900)), shadow_of=f"{unit}-1900")
        await add(db, *heads, shadow)
        said = [(f"{unit}-{n:04}", row, label) for n, row, label in (
            (1_900, 0, "fraud"), (1_901, 0, 1.0), (1_902, 0, "fraud"), (1_902, 1, "fraud"), (1_903, 0, "1"),
        )] + [(f"{unit}-shadow", 0, "fraud")]  # fmt: skip
        reports = [Report(id, row, label, None, "somebody", None) for id, row, label in said]
        async with db.transaction() as tx:
            await store.report(tx.session, reports)
            await store.settle(tx.session, [Known(r, unit, unit, 2, 1, AT) for r in reports], [None] * 6, AT)
    async with db.engine.connect() as connection:
        await connection.exec_driver_sql("ANALYZE recorder.decision, recorder.outcome")


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (store.Wanted(label="fraud"), (1_900, 1_902)),
        (store.Wanted(label="1"), (1_901, 1_903)),
        (store.Wanted(outcome="known"), (1_900, 1_901, 1_902, 1_903)),
        (store.Wanted(label="fraud", application="another"), ()),
        (store.Wanted(label="nan"), ()),
        (store.Wanted(label="fraud", outcome="known", model="census"), (1_900, 1_902)),
    ],
)
async def test_a_list_by_what_followed_reads_no_decision_that_nothing_followed_from(
    service_db: Databases, monkeypatch: pytest.MonkeyPatch, wanted: store.Wanted, numbers: tuple[int, ...]
) -> None:
    db = service_db("recorder")
    await followed(db)
    for units in (None, ["retail"], ["retail", "wealth"]):
        expected = {f"{unit}-{n}" for unit in units or ("retail", "wealth") for n in numbers}
        async with db.reading(",".join(units or "*")) as session:
            monkeypatch.setattr(lookup, "_FEW", -1)
            found = await store.decisions(session, wanted, None, 50, units)
            monkeypatch.setattr(lookup, "_FEW", 20_000)
            assert await store.decisions(session, wanted, None, 50, units) == found, "of few each is looked at"
            select, values = lookup.question(wanted, None, 50, units, True)
            explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {select}"
            plan = (await session.execute(text(explained), values)).scalar_one()[0]["Plan"]
        assert {each.inference_id for each in found} == expected and len(found) == len(expected)
        assert [each.received_at for each in found] == sorted((each.received_at for each in found), reverse=True)
        assert _read(plan) <= 100, "of 4,002"


async def plan_of(db: Database, wanted: store.Wanted, limit: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How a unit's list was read."""
    asked: list[tuple[str, dict[str, Any]]] = []
    whole = lookup.question

    def question(*args: Any) -> tuple[str, dict[str, Any]]:
        asked.append(whole(*args))
        return asked[-1]

    monkeypatch.setattr(lookup, "question", question)
    async with db.reading() as session:
        await store.decisions(session, wanted, None, limit, ["retail"])
        select, values = asked[-1]
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {select}"
        return (await session.execute(text(explained), values)).scalar_one()[0]["Plan"]


async def observe(db: Database, unit: str, places: Sequence[tuple[str, int]]) -> None:
    """Something followed from each of these rows."""
    reports = [Report(id, row, 1.0, None, "somebody", None) for id, row in places]
    async with db.transaction() as tx:
        await store.report(tx.session, reports)
        await store.settle(tx.session, [Known(r, unit, unit, 2, 1, AT) for r in reports], [None] * len(reports), AT)
    async with db.engine.connect() as connection:
        await connection.exec_driver_sql("ANALYZE recorder.decision, recorder.outcome")


async def test_a_small_old_use_cases_list_by_what_followed_does_not_walk_what_followed_from_others(
    service_db: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, minute = service_db("recorder"), timedelta(minutes=1)
    await add(db, *(decision(f"d-{n:04}", "retail", "retail", n * minute) for n in range(2_000)))
    old = [replace(decision(f"old-{n}", "retail", "retail", (3_000 + n) * minute), use_case="old") for n in range(20)]
    await add(db, *old)
    await observe(db, "retail", [*((f"d-{n:04}", 0) for n in range(2_000)), *((f"old-{n}", 0) for n in range(20))])
    plan = await plan_of(db, store.Wanted(outcome="known", use_case="old"), 50, monkeypatch)
    assert plan["Actual Rows"] == 20 and _read(plan) <= 100, "of 4,040"


async def test_a_list_by_what_followed_takes_one_step_for_each_decision_whatever_number_of_its_rows_is_known(
    service_db: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, minute = service_db("recorder"), timedelta(minutes=1)
    await add(db, *(decision(f"d-{n}", "retail", "retail", n * minute) for n in range(5)))
    await observe(db, "retail", [(f"d-{n}", row) for n in range(5) for row in range(400)])
    plan = await plan_of(db, store.Wanted(outcome="known"), 3, monkeypatch)
    assert plan["Actual Rows"] == 3 and _read(plan) <= 20, "of 2,005"


async def test_lists_are_right_while_outcomes_of_before_do_not_hold_when_their_decisions_were_made(
    service_db: Databases,
) -> None:
    db, known = service_db("recorder"), store.Wanted(outcome="known", model="census")
    await followed(db)
    async with db.transaction() as tx:
        await tx.session.execute(text("UPDATE outcome SET decided_at = NULL WHERE inference_id > 'retail-1901'"))
        before = [each.inference_id for each in await store.decisions(tx.session, known, None, 50)]
        assert len(before) == 8 and {"retail-1900", "retail-1903", "wealth-1900"} <= {*before}
        done = [await store.date_outcomes(tx.session, 6) for _ in range(3)]
        assert done == [6, 4, 0]
        assert [each.inference_id for each in await store.decisions(tx.session, known, None, 50)] == before
        left = "SELECT count(*) FROM outcome JOIN decision USING (inference_id) WHERE decided_at <> received_at"
        assert await tx.session.scalar(text(left)) == 0


async def test_a_list_by_what_followed_goes_on_where_a_page_ended_and_keeps_to_its_time(service_db: Databases) -> None:
    db, known = service_db("recorder"), store.Wanted(outcome="known", endpoint="retail")
    await followed(db)
    pages: list[str] = []
    async with db.reading() as session:
        before = None
        while page := await store.decisions(session, known, before, 3):
            pages += [each.inference_id for each in page]
            before = page[-1].received_at, page[-1].inference_id
        assert pages == ["retail-1900", "retail-1901", "retail-1902", "retail-1903"]
        until = replace(known, start=datetime.now(UTC) - timedelta(minutes=1_902, seconds=30))
        assert len(await store.decisions(session, until, None, 50)) == 3
        assert await store.decisions(session, replace(known, end=until.start, label="fraud"), None, 50) == []
        of_one = replace(known, entity="nobody")
        assert await store.decisions(session, of_one, None, 50) == []


def _read(plan: dict[str, Any]) -> float:
    """Rows that were looked at in the table."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return own * plan["Actual Loops"] + sum(_read(each) for each in plan.get("Plans", ()))


async def test_a_list_that_takes_too_long_says_how_to_ask_for_less(
    service_db: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = ("SELECT pg_sleep(60)", dict[str, Any]())
    monkeypatch.setattr(patience, "PATIENCE_S", 0.2)
    monkeypatch.setattr(lookup, "question", lambda *_: slow)
    async with service_db("recorder").reading() as session:
        with pytest.raises(Invalid, match="from, to"):
            await store.decisions(session, store.Wanted(), None, 50)
