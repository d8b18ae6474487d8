"""The catalog's SQL on a real PostgreSQL, under the service's own role."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from contracts import Service, Training
from services.catalog import store
from services.catalog.domain import Listed, ModelVersion
from services.catalog.intake import Intake
from services.catalog.settings import CatalogSettings
from services.catalog.usecases import Catalog
from services.kit.context import Caller, Context, use
from services.kit.db import Database
from services.kit.errors import Conflict, NotFound
from services.kit.objects import Objects

from . import making

ROLES = frozenset({"data-scientist"})
ANN = Caller("ann", "person", ROLES, frozenset({"retail"}))
BOB = Caller("bob", "person", ROLES, frozenset({"wealth"}))
EVE = Caller("eve", "person", frozenset({"executive"}), frozenset({"*"}))


@pytest.fixture
def db(service_db: Callable[[Service], Database]) -> Database:
    return service_db("catalog")


@pytest.fixture
def catalog(db: Database, tmp_path: Path) -> Catalog:
    settings = CatalogSettings(home=tmp_path)
    return Catalog(db, Intake(settings, Objects(settings)))


@pytest.fixture(autouse=True)
def as_ann() -> Iterator[None]:
    with use(Context(ANN)):
        yield


async def add(catalog: Catalog, content: str = "one", unit: str = "retail", **fields: object) -> ModelVersion:
    return (await catalog.add(making.candidate(content, **fields), unit, "ann"))[0]  # pyright: ignore[reportArgumentType]


async def said(db: Database, topic: str) -> list[dict[str, object]]:
    async with db.chassis() as session:
        rows = await session.execute(
            text("SELECT value::jsonb AS value FROM outbox WHERE topic = :t ORDER BY number"), {"t": topic}
        )
        return [row.value for row in rows]


async def test_a_version_comes_back_as_it_was_stored(catalog: Catalog) -> None:
    made = await add(catalog, tags=["census"], metrics={"accuracy": 0.83})
    assert await catalog.version("credit", 1) == made
    assert await catalog.model("credit", None, 10) == (Listed.of(made, serves=False), [made])


async def test_the_same_bytes_give_the_same_version_and_one_event(catalog: Catalog, db: Database) -> None:
    first, again = await add(catalog), await add(catalog)
    assert first == again
    assert len(await said(db, "model.registered")) == 1
    assert (await add(catalog, "two")).version == 2


async def test_twenty_at_once_get_twenty_numbers_without_gap_or_twin(catalog: Catalog, db: Database) -> None:
    made = await asyncio.gather(*(add(catalog, f"content {index}") for index in range(20)))
    assert sorted(each.version for each in made) == list(range(1, 21))
    assert [event["version"] for event in await said(db, "model.registered")] == list(range(1, 21))


async def test_twenty_times_the_same_bytes_at_once_are_one_version(catalog: Catalog, db: Database) -> None:
    made = await asyncio.gather(*(add(catalog) for _ in range(20)))
    assert {each.version for each in made} == {1}
    assert len(await said(db, "model.registered")) == 1


async def test_another_unit_sees_nothing_and_cannot_take_the_name(catalog: Catalog) -> None:
    await add(catalog)
    with use(Context(BOB)):
        with pytest.raises(NotFound):
            await catalog.version("credit", 1)
        with pytest.raises(NotFound):
            await catalog.lineage("credit", 1)
        with pytest.raises(NotFound):
            await catalog.retire("credit", 1, "mine now")
        assert await catalog.models(None, None, None, "", 10) == []
        with pytest.raises(Conflict, match="taken"):
            await add(catalog, "other", unit="wealth")
    with use(Context(EVE)):
        assert len(await catalog.models(None, None, None, "", 10)) == 1
    assert (await catalog.model("credit", None, 10))[0].state == "registered"


async def test_use_cases_are_registered_once_and_told_once(catalog: Catalog, db: Database) -> None:
    first = await catalog.register_use_case(making.use_case())
    assert first == (making.use_case(), True)
    assert await catalog.register_use_case(making.use_case()) == (making.use_case(), False)
    with pytest.raises(Conflict, match="another content"):
        await catalog.register_use_case(making.use_case(risk_tier=1))
    assert [event["use_case"] for event in await said(db, "usecase.registered")] == ["credit-limits"]
    with use(Context(BOB)):
        with pytest.raises(NotFound):
            await catalog.use_case("credit-limits")
        with pytest.raises(Conflict, match="taken"):
            await catalog.register_use_case(making.use_case(unit="wealth"))
        assert await catalog.use_cases("", 10) == []


async def test_a_retired_version_is_told_and_its_model_shows_it(catalog: Catalog, db: Database) -> None:
    await add(catalog)
    made = await catalog.retire("credit", 1, "too old")
    assert made.state == "retired" and (await catalog.version("credit", 1)) == made
    assert (await said(db, "model.retired"))[0]["reason"] == "too old"
    assert [v.model for v in await catalog.models(None, None, "retired", "", 10)] == ["credit"]
    with pytest.raises(Conflict):
        await catalog.retire("credit", 1, "again")
    with pytest.raises(NotFound):
        await catalog.retire("credit", 9, "none")


SEARCHES = [
    ("employment", ["census-employment"]), ("census", ["census-employment"]), ("census-employ", ["census-employment"]),
    ("AGEP", ["census-employment", "churn"]), ("who leaves", ["churn"]), ("agep -census", ["churn"]),
    ('"who leaves" or census', ["census-employment", "churn"]), ("nothing", []), ("%", []), ("a' | & !", []), ("-", []),
]  # fmt: skip


@pytest.mark.parametrize(("query", "found"), SEARCHES)
async def test_models_are_found_by_words(query: str, found: list[str], catalog: Catalog) -> None:
    await add(catalog, name="census-employment", tags=["census"])
    await add(catalog, "two", name="churn", description="Who leaves us soon?")
    assert [v.model for v in await catalog.models(query, None, None, "", 10)] == found


async def test_models_are_filtered_by_tag_and_state_and_paged_by_name(catalog: Catalog) -> None:
    for name, tag, scan in (("a", "x", "clean"), ("b", "y", "clean"), ("c", "x", "malicious")):
        await add(catalog, name, name=name, tags=[tag], scan=scan)

    async def names(tag: str | None = None, state: str | None = None, after: str = "", limit: int = 10) -> list[str]:
        return [v.model for v in await catalog.models(None, tag, state, after, limit)]

    assert await names() == ["a", "b", "c"]
    assert await names(tag="x") == ["a", "c"]
    assert await names(state="quarantined") == ["c"]
    assert await names(limit=2) == ["a", "b"] and await names(after="b") == ["c"]


async def test_a_newer_revision_wins_and_an_older_is_ignored(catalog: Catalog, db: Database) -> None:
    await add(catalog)
    for revision, number in ((2, 1), (1, 9)):
        async with db.transaction(unit="retail") as tx:
            await store.note_serving(tx.session, making.deployment(revision, number), "retail")
    assert await catalog.endpoints("credit", 1) == ["limits"]
    assert [each.serves for each in await catalog.models(None, None, "serving", "", 10)] == [True]
    async with db.transaction(unit="retail") as tx:
        await store.note_serving(tx.session, making.deployment(3, state="removed"), "retail")
    assert await catalog.endpoints("credit", 1) == []


async def test_one_retraining_is_one_version_even_with_bytes_that_are_there(catalog: Catalog, db: Database) -> None:
    await add(catalog)
    training = Training(retraining_id="r1", parent_version=1)
    async with db.transaction(unit="retail") as tx:
        assert await store.lock_model(tx.session, "credit", "retail")
        number = await store.next_version(tx.session, "credit")
        await store.add_version(tx.session, making.version(number, training=training))
    async with db.reading(unit="retail") as session:
        found = await store.version_of(session, "credit", 2)
    assert found is not None and found.candidate.training == training
