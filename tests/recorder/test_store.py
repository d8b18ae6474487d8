"""Retention on real PostgreSQL: what is too old goes, with all that hangs on it, and nothing else."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from contracts import Service
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.recorder import store
from services.recorder.domain.layout import Head
from services.recorder.domain.outcomes import Report
from services.recorder.files import Files
from services.recorder.jobs import Joins
from services.recorder.settings import RecorderSettings

Databases = Callable[[Service], Database]
KEPT = timedelta(days=30)


@pytest.fixture(autouse=True)
def as_the_recorder() -> Iterator[None]:
    with use(Context(system("recorder"))):
        yield


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
        assert await store.forget(tx.session, KEPT) == [old]
    assert await remaining(db, "decision") == {"young", "in-young-file", "mate", "elsewhere"}
    assert await remaining(db, "outcome") == {"young", "unmet"}


async def test_a_file_that_cannot_be_removed_is_not_forgotten(
    service_db: Databases, recorder_settings: RecorderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, files = service_db("recorder"), Files(recorder_settings.inferences)
    joins = Joins(recorder_settings, db, None, None, files, Progress())  # type: ignore[arg-type]
    path = await add(
        db, decision("old", "employment", "retail", timedelta(days=recorder_settings.decisions_kept_days + 1))
    )
    place = recorder_settings.inferences / path
    place.parent.mkdir(parents=True)
    place.touch()

    def refuse(_: str) -> None:
        raise PermissionError(place)

    with monkeypatch.context() as patched, pytest.raises(PermissionError):
        patched.setattr(files, "remove", refuse)
        await joins._forget()
    assert await remaining(db, "decision") == {"old"}
    assert await joins._forget() and not await joins._forget()
    assert await remaining(db, "decision") == set() and not place.exists()


async def test_an_outcome_waits_for_its_inference_as_long_as_the_limit_and_no_longer(service_db: Databases) -> None:
    db = service_db("recorder")
    async with db.transaction() as tx:
        await store.report(tx.session, [Report(id, 0, 1.0, None, "somebody", None) for id in ("old", "young")])
        aged = "UPDATE outcome SET reported_at = now() - interval '30 days 1 minute' WHERE inference_id = 'old'"
        await tx.session.execute(text(aged))
    async with db.transaction() as tx:
        assert [outcome.inference_id for outcome in await store.expired(tx.session, KEPT)] == ["old"]
    assert await remaining(db, "outcome") == {"young"}


async def test_of_outcomes_said_together_the_last_of_a_row_counts_and_a_repeat_is_none(service_db: Databases) -> None:
    db, id = service_db("recorder"), uuid4().hex
    said = [Report(id, 0, "no", None, "somebody", frozenset({"retail"})), Report(id, 1, None, 2.5, "somebody", None),
            Report(id, 0, "yes", None, "somebody", frozenset({"retail"}))]  # fmt: skip
    async with db.transaction(unit="*") as tx:
        assert await store.report(tx.session, said) == 2
        assert await store.report(tx.session, said[1:]) == 0
        assert await store.report(tx.session, []) == 0
        kept = await tx.session.execute(
            text('SELECT label, value, units FROM outcome WHERE inference_id = :id ORDER BY "row"'), {"id": id}
        )
        assert [tuple(row) for row in kept] == [("yes", None, ["retail"]), (None, 2.5, None)]
