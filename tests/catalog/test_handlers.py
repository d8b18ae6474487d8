"""What the catalog does with what it hears: each event has its effect once, in its own unit."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from contracts import HEARS, Event
from services.catalog.handlers import subscriptions
from services.catalog.intake import Intake
from services.catalog.settings import CatalogSettings
from services.catalog.usecases import Catalog
from services.kit.context import Claim, Context, system, use
from services.kit.db import AlreadyHandled, Database
from services.kit.errors import Conflict, Invalid, NotFound
from services.kit.objects import Objects
from services.kit.service import Parts

from . import making, models


@pytest.fixture
def objects(settings: CatalogSettings) -> Objects:
    return Objects(settings)


@pytest.fixture
def catalog(parts: Parts, settings: CatalogSettings, objects: Objects) -> Catalog:
    assert parts.db is not None
    return Catalog(parts.db, Intake(settings, objects))


@pytest.fixture
def db(parts: Parts) -> Database:
    assert parts.db is not None
    return parts.db


@contextmanager
def hearing(id: str = "1", unit: str = "retail") -> Iterator[None]:
    """As the bus calls a handler: the service itself, in the event's unit, with an inbox row to write."""
    with use(Context(system("catalog", unit), claim=Claim(f"test {id}"))):
        yield


async def hear(catalog: Catalog, event: Event, id: str = "1", unit: str = "retail") -> None:
    table = {subscription.event: subscription.handle for subscription in subscriptions(catalog)}
    with hearing(id, unit):
        await table[type(event)](event)


async def champion(catalog: Catalog) -> None:
    with use(Context(system("catalog", "retail"))):
        await catalog.add(making.candidate(), "retail", "ann")


async def packed(objects: Objects, **said: Any) -> str:
    return await objects.put(models.package(models.onnx_bytes(models.onnx_model()), columns=models.COLUMNS, **said))


async def told(db: Database) -> list[dict[str, object]]:
    async with db.chassis() as session:
        select = "SELECT value::jsonb AS value FROM outbox WHERE topic = 'model.registered' ORDER BY number"
        return [row.value for row in await session.execute(text(select))]


def test_it_hears_what_the_contracts_say(catalog: Catalog) -> None:
    assert {subscription.event for subscription in subscriptions(catalog)} == set(HEARS["catalog"])


async def test_a_candidate_that_won_becomes_the_next_version_with_its_lineage(
    catalog: Catalog, db: Database, objects: Objects
) -> None:
    await champion(catalog)
    digest = await packed(objects)
    await hear(catalog, making.retraining(package_digest=digest))
    event = (await told(db))[1]
    assert (event["version"], event["digest"], event["registered_by"]) == (2, digest, "service:governor")
    training = event["training"]
    assert isinstance(training, dict)
    assert (training["retraining_id"], training["parent_version"]) == (str(UUID(int=7)), 1)
    assert (training["rows"], training["metrics"]) == (500, {"accuracy": 0.9})
    with use(Context(system("catalog", "retail"))):
        graph = await catalog.lineage("credit", 1)
    assert f"retraining:{UUID(int=7)}" in {edge.target for edge in graph.edges}
    assert "version:credit/2" in {edge.target for edge in graph.edges}


async def test_one_retraining_is_one_version_however_often_it_is_told(
    catalog: Catalog, db: Database, objects: Objects
) -> None:
    await champion(catalog)
    event = making.retraining(package_digest=await packed(objects))
    await hear(catalog, event)
    with pytest.raises(AlreadyHandled):
        await hear(catalog, event)
    await hear(catalog, event, id="told again under another id")
    assert [each["version"] for each in await told(db)] == [1, 2]


async def test_a_champion_that_was_kept_is_remembered_without_a_version(catalog: Catalog, db: Database) -> None:
    await champion(catalog)
    await hear(catalog, making.retraining("champion_kept"))
    assert len(await told(db)) == 1
    with use(Context(system("catalog", "retail"))):
        graph = await catalog.lineage("credit", 1)
    assert "champion kept" in {node.label for node in graph.nodes}


async def test_a_candidate_that_is_wrong_is_refused_and_nothing_is_registered(
    catalog: Catalog, db: Database, objects: Objects, settings: CatalogSettings
) -> None:
    await champion(catalog)
    wrong = {
        "not there": (making.retraining(package_digest="sha256:" + "0" * 64), NotFound),
        "without a package": (making.retraining(), Invalid),
        "another model": (making.retraining(package_digest=await packed(objects, name="other")), Invalid),
        "no package": (making.retraining(package_digest=await objects.put(b"PK\3\4")), Invalid),
    }
    for event, error in wrong.values():
        with pytest.raises(error):
            await hear(catalog, event)
    swapped = await packed(objects, tags=["swapped"])
    path = Path(settings.home / "objects" / "sha256" / swapped[7:9] / swapped[7:])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Invalid, match="altered"):
        await hear(catalog, making.retraining(package_digest=swapped))
    assert len(await told(db)) == 1


async def test_a_candidate_told_in_another_unit_takes_no_name(catalog: Catalog, db: Database, objects: Objects) -> None:
    await champion(catalog)
    with pytest.raises(Conflict, match="taken"):
        await hear(catalog, making.retraining(package_digest=await packed(objects)), unit="wealth")
    assert len(await told(db)) == 1


async def test_deployments_and_grants_are_remembered_once_and_stale_ones_ignored(catalog: Catalog) -> None:
    await champion(catalog)
    await hear(catalog, making.deployment(2), "d2")
    await hear(catalog, making.deployment(1, number=9), "d1")
    from contracts import ApprovalGranted

    grant = making.grant()
    granted = ApprovalGranted(
        approval_id=grant.statement.approval_id, deployment_id=grant.statement.deployment_id, endpoint="limits",
        grant=grant, reason="fine",
    )  # fmt: skip
    await asyncio.gather(hear(catalog, granted, "g1"), hear(catalog, granted, "g2"))
    with use(Context(system("catalog", "retail"))):
        graph = await catalog.lineage("credit", 1)
    assert {(edge.kind, edge.target) for edge in graph.edges if edge.kind != "trained"} == {
        ("allowed", "version:credit/1"), ("serves", "endpoint:limits"),
    }  # fmt: skip
    with use(Context(system("catalog", "wealth"))), pytest.raises(NotFound):
        await catalog.lineage("credit", 1)
