"""What the catalog does with what it hears: each event has its effect once, in its own unit."""

import asyncio

import pytest

from contracts import HEARS, ApprovalGranted
from services.catalog.handlers import subscriptions
from services.kit.context import Context, system, use
from services.kit.errors import NotFound

from . import making
from .hearing import House


async def test_it_hears_what_the_contracts_say(house: House) -> None:
    assert {each.event for each in subscriptions(house.catalog, house.candidates)} == set(HEARS["catalog"])


async def test_a_champion_that_was_kept_is_remembered_without_a_version(house: House) -> None:
    await house.hear(making.retraining("champion_kept"))
    assert not await house.candidates.waiting()
    assert len(await house.said("model.registered")) == 1
    assert "champion kept" in await house.lineage()


async def test_deployments_and_grants_are_remembered_once_and_stale_ones_ignored(house: House) -> None:
    await house.hear(making.deployment(2), "d2")
    await house.hear(making.deployment(1, number=9), "d1")
    grant = making.grant()
    granted = ApprovalGranted(
        approval_id=grant.statement.approval_id, deployment_id=grant.statement.deployment_id, endpoint="limits",
        grant=grant, reason="fine",
    )  # fmt: skip
    await asyncio.gather(house.hear(granted, "g1"), house.hear(granted, "g2"))
    with house.in_unit():
        graph = await house.catalog.lineage("credit", 1)
    assert {(edge.kind, edge.target) for edge in graph.edges if edge.kind != "trained"} == {
        ("allowed", "version:credit/1"), ("serves", "endpoint:limits"),
    }  # fmt: skip
    with use(Context(system("catalog", "wealth"))), pytest.raises(NotFound):
        await house.catalog.lineage("credit", 1)
