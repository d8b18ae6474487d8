"""Versions beside a champion: how they join, change their share, are promoted, taken away and revoked."""

from datetime import timedelta
from typing import Any

import pytest

from contracts import DeploymentChanged, DeploymentSettled, TensorSpec
from services.deployer.domain import Deployment
from services.deployer.domain.beside import misfit_of
from services.kit.context import Context, use
from services.kit.errors import Conflict, Invalid, NotFound, Refusal
from services.kit.signing import canonical

from .conftest import ENGINEER, SCHEMA, House, registered, report
from .test_usecases import published, retired, revoked, said


async def a_champion(house: House, versions: int = 4) -> None:
    """Version 1 serves; others are registered."""
    await house.knows(*(registered(n) for n in range(1, versions + 1)))
    await house.serves(1)


async def joins(house: House, version: int, strategy: str, **more: Any) -> Deployment:
    """Ask, grant, and let the replica say that it is ready."""
    deployment = await in_flight(house, version, strategy, **more)
    await is_ready(house)
    return await house.deployment(deployment.id)


async def in_flight(house: House, version: int, strategy: str, **more: Any) -> Deployment:
    house.now += more.pop("after", house.now - house.now)
    deployment = await house.asks(version=version, strategy=strategy, **more)
    await house.is_granted(deployment)
    return await house.deployment(deployment.id)


async def is_ready(house: House) -> None:
    revision = (await house.endpoint()).revision
    await house.hears(house.deployer.note_replica, report("credit", revision), "*")


async def promotes(house: House, variant: str | None = None) -> None:
    with use(Context(ENGINEER)):
        await house.deployer.promote(ENGINEER, "credit", variant)


async def weighs(house: House, weight: float, variant: str | None = None) -> None:
    with use(Context(ENGINEER)):
        await house.deployer.weigh(ENGINEER, "credit", variant, weight)


async def takes_away(house: House, variant: str | None = None) -> None:
    with use(Context(ENGINEER)):
        await house.deployer.roll_back(ENGINEER, "credit", variant)


async def states(house: House) -> list[tuple[int, str]]:
    with use(Context(ENGINEER)):
        return [(d.version, d.state) for d in reversed(await house.deployer.deployments("credit", None, 20))]


def shape(desired: DeploymentChanged) -> list[tuple[str, int, str, float]]:
    return [(v.name, v.version, v.role, v.weight) for v in desired.variants]


async def last(house: House) -> DeploymentChanged:
    desired = (await published(house))[-1]
    house.keys.verify(canonical(desired, without=frozenset({"signature"})), desired.signature, owner="deployer")
    return desired


async def test_a_granted_canary_takes_its_share_beside_the_champion(house: House) -> None:
    await a_champion(house)
    canary = await joins(house, 2, "canary", weight=0.1)
    desired = await last(house)
    assert shape(desired) == [("champion", 1, "live", 0.9), ("canary", 2, "live", 0.1)]
    assert [v.grant.statement.version for v in desired.variants] == [1, 2]
    assert desired.routing and desired.routing.strategy == "canary"
    assert (canary.state, await states(house)) == ("serving", [(1, "serving"), (2, "serving")])
    settled = [(event.version, event.state) for event in await said(house, DeploymentSettled)]
    assert settled == [(1, "serving"), (2, "serving")]


async def test_a_direct_deployment_is_said_as_before_there_were_others(house: House) -> None:
    await a_champion(house)
    [desired] = await published(house)
    said_of = desired.model_dump(mode="json")
    assert "routing" not in said_of
    assert not {"role", "cohorts"} & said_of["variants"][0].keys()


async def test_a_promoted_canary_is_the_champion_and_the_rollback_brings_the_earlier_back(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "canary", weight=0.1)
    await promotes(house)
    assert shape(await last(house)) == [("champion", 2, "live", 1.0)]
    assert (await last(house)).routing is None
    assert await states(house) == [(1, "serving"), (2, "rolling_out")]
    await is_ready(house)
    assert await states(house) == [(1, "replaced"), (2, "serving")]
    await takes_away(house)
    await is_ready(house)
    assert shape(await last(house)) == [("champion", 1, "live", 1.0)]
    assert await states(house) == [(1, "serving"), (2, "rolled_back")]
    assert len(await said(house, DeploymentSettled)) == 2


async def test_a_promoted_version_that_no_host_can_load_leaves_the_champion(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "canary", weight=0.1)
    await promotes(house)
    failed = report("credit", (await house.endpoint()).revision, "failed", reason="no room")
    await house.hears(house.deployer.note_replica, failed, "*")
    assert shape(await last(house)) == [("champion", 1, "live", 1.0)]
    assert dict(await states(house))[2] == "failed"


async def test_a_rollback_takes_a_canary_away_and_leaves_the_champion(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "canary", weight=0.1)
    await takes_away(house)
    assert shape(await last(house)) == [("champion", 1, "live", 1.0)]
    assert await states(house) == [(1, "serving"), (2, "rolled_back")]


async def test_another_weight_keeps_who_was_in_the_canary_in_it(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "canary", weight=0.1)
    before = (await last(house)).variants[1].cohorts
    await weighs(house, 0.25)
    desired = await last(house)
    assert shape(desired) == [("champion", 1, "live", 0.75), ("canary", 2, "live", 0.25)]
    assert (before[0].first, desired.variants[1].cohorts[0].last) == (desired.variants[1].cohorts[0].first, 2499)
    assert desired.routing == (await published(house))[-2].routing


async def test_an_experiment_has_several_variants_of_one_strategy(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "ab", weight=0.2, variant="bold")
    await joins(house, 3, "ab", weight=0.3)
    assert shape(await last(house)) == [
        ("champion", 1, "live", 0.5), ("bold", 2, "live", 0.2), ("version-3", 3, "live", 0.3),
    ]  # fmt: skip
    with pytest.raises(Invalid, match="say which of bold, version-3"):
        await promotes(house)
    await promotes(house, "version-3")
    await is_ready(house)
    assert await states(house) == [(1, "replaced"), (2, "replaced"), (3, "serving")]


async def test_the_arms_of_a_bandit_begin_alike_and_have_no_weight_to_set(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "bandit")
    assert shape(await last(house)) == [("champion", 1, "live", 0.5), ("version-2", 2, "live", 0.5)]
    with pytest.raises(Conflict, match="no share"):
        await weighs(house, 0.3)


async def test_a_shadow_and_a_fallback_stay_beside_the_next_champion(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "shadow")
    await joins(house, 3, "fallback")
    fourth = await house.serves(4)
    assert shape(await last(house)) == [
        ("champion", 4, "live", 1.0), ("challenger", 2, "shadow", 0.0), ("fallback", 3, "fallback", 0.0),
    ]  # fmt: skip
    assert fourth.state == "serving"
    assert await states(house) == [(1, "replaced"), (2, "serving"), (3, "serving"), (4, "serving")]
    await promotes(house)
    await is_ready(house)
    assert shape(await last(house)) == [("champion", 2, "live", 1.0), ("fallback", 3, "fallback", 0.0)]


async def test_an_experiment_ends_when_another_champion_rolls_out(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "canary", weight=0.1)
    third = await house.serves(3)
    assert shape(await last(house)) == [("champion", 3, "live", 1.0)]
    assert (third.state, await states(house)) == ("serving", [(1, "replaced"), (2, "replaced"), (3, "serving")])


async def test_a_canary_that_no_host_can_load_is_taken_out_and_the_champion_serves(house: House) -> None:
    await a_champion(house)
    canary = await in_flight(house, 2, "canary", weight=0.1)
    failed = report("credit", 2, "failed", reason="digest differs")
    await house.hears(house.deployer.note_replica, failed, "*")
    assert shape(await last(house)) == [("champion", 1, "live", 1.0)]
    ended = await house.deployment(canary.id)
    assert (ended.state, "digest differs" in (ended.reason or "")) == ("failed", True)
    assert dict(await states(house))[1] == "serving"


async def test_of_two_in_flight_the_later_is_taken_out_and_the_other_goes_on(house: House) -> None:
    await a_champion(house)
    await in_flight(house, 2, "ab", weight=0.1)
    house.now += house.now.resolution
    await in_flight(house, 3, "ab", weight=0.1)
    await house.hears(house.deployer.note_replica, report("credit", 3, "failed", reason="torn"), "*")
    assert await states(house) == [(1, "serving"), (2, "rolling_out"), (3, "failed")]
    await is_ready(house)
    assert dict(await states(house))[2] == "serving"


async def test_a_revoked_canary_is_said_to_be_withdrawn_and_the_champion_serves(house: House) -> None:
    await a_champion(house)
    canary = await joins(house, 2, "canary", weight=0.1)
    await house.hears(house.deployer.revoke, revoked(canary))
    desired = await last(house)
    assert (shape(desired), desired.withdrawn) == ([("champion", 1, "live", 1.0)], (canary.approval_id,))
    assert await states(house) == [(1, "serving"), (2, "revoked")]


async def test_a_retired_shadow_leaves_and_the_champion_serves(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "shadow")
    await house.hears(house.deployer.forget_version, retired(2))
    desired = await last(house)
    assert (shape(desired), len(desired.withdrawn)) == ([("champion", 1, "live", 1.0)], 1)


async def test_a_champion_that_is_revoked_ends_its_experiment_and_the_version_before_serves(house: House) -> None:
    await a_champion(house)
    second = await house.serves(2)
    await joins(house, 3, "canary", weight=0.1)
    await house.hears(house.deployer.revoke, revoked(second))
    assert shape(await last(house)) == [("champion", 1, "live", 1.0)]
    assert await states(house) == [(1, "rolling_out"), (2, "revoked"), (3, "replaced")]


async def test_an_endpoint_that_is_removed_takes_all_of_its_versions_down(house: House) -> None:
    await a_champion(house)
    await joins(house, 2, "canary", weight=0.1)
    await house.removes()
    assert await states(house) == [(1, "removed"), (2, "removed")]
    assert (await last(house)).variants == ()


ASKS: dict[str, tuple[type[Refusal], str, dict[str, Any]]] = {
    "no weight": (Invalid, "weight", {"strategy": "canary"}),
    "a weight of a shadow": (Invalid, "weight", {"strategy": "shadow", "weight": 0.1}),
    "a weight of a direct one": (Invalid, "weight", {"strategy": "direct", "weight": 0.1}),
    "too much": (Invalid, "weight", {"strategy": "canary", "weight": 1.0}),
    "a name for a direct one": (Invalid, "variant", {"strategy": "direct", "variant": "bold"}),
    "the champion's name": (Invalid, "variant", {"strategy": "ab", "weight": 0.1, "variant": "champion"}),
    "streaming alone": (Invalid, "streaming", {"strategy": "shadow", "streaming": True}),
    "the version that serves": (Conflict, "version", {"strategy": "shadow", "version": 1}),
    "another experiment": (Conflict, "strategy", {"strategy": "bandit"}),
    "a name that is taken": (Conflict, "variant", {"strategy": "canary", "weight": 0.1, "variant": "canary"}),
    "more than is left": (Invalid, "weight", {"strategy": "canary", "weight": 0.9, "variant": "more"}),
}


@pytest.mark.parametrize(("kind", "field", "ask"), ASKS.values(), ids=ASKS)
async def test_what_cannot_stand_beside_the_champion_is_refused_naming_the_field(
    house: House, kind: type[Refusal], field: str, ask: dict[str, Any]
) -> None:
    ask = dict(ask)
    await a_champion(house)
    await joins(house, 2, "canary", weight=0.2)
    with pytest.raises(kind, match=f"^{field}: ") as refusal:
        await house.asks("credit", ask.pop("version", 3), **ask)
    assert not isinstance(refusal.value, Invalid) or refusal.value.field == field


async def test_a_canary_without_a_champion_is_refused(house: House) -> None:
    await house.knows()
    with pytest.raises(Conflict, match="serves none: deploy directly"):
        await house.asks(strategy="canary", weight=0.1)


async def test_a_version_that_takes_other_inputs_cannot_join(house: House) -> None:
    await a_champion(house)
    other = SCHEMA.model_copy(update={"inputs": (TensorSpec(name="X", datatype="FP32", shape=(-1, 7)),)})
    await house.hears(house.deployer.learn_version, registered(9, model_schema=other))
    with pytest.raises(Invalid, match="version: it has other inputs"):
        await house.asks(version=9, strategy="shadow")


async def test_a_version_of_doubles_may_stand_beside_a_champion_of_single_precision_and_not_the_other_way(
    house: House,
) -> None:
    doubles = SCHEMA.model_copy(update={"inputs": (TensorSpec(name="X", datatype="FP64", shape=(-1, 3)),)})
    assert misfit_of(doubles, SCHEMA, "live") is None
    assert misfit_of(SCHEMA, doubles, "live") == "it has other inputs than the champion"
    await a_champion(house)
    await house.hears(house.deployer.learn_version, registered(9, model_schema=doubles))
    await house.asks(version=9, strategy="shadow")


async def test_a_grant_for_a_place_that_was_taken_meanwhile_ends_the_deployment(house: House) -> None:
    await a_champion(house)
    late = await house.asks(version=3, strategy="canary", weight=0.1)
    await joins(house, 2, "canary", weight=0.1)
    await house.is_granted(late)
    ended = await house.deployment(late.id)
    assert (ended.state, "one named canary already" in (ended.reason or "")) == ("failed", True)


async def test_what_is_not_there_can_be_neither_promoted_nor_taken_away(house: House) -> None:
    await a_champion(house)
    with pytest.raises(Conflict, match="nothing beside its champion"):
        await promotes(house)
    with pytest.raises(NotFound, match="no canary"):
        await promotes(house, "canary")
    with pytest.raises(NotFound, match="no bold"):
        await takes_away(house, "bold")
    await in_flight(house, 2, "canary", weight=0.1)
    with pytest.raises(Conflict, match="promote it when it serves"):
        await promotes(house)


async def test_a_rollout_beside_the_champion_that_takes_too_long_is_taken_out(house: House) -> None:
    await a_champion(house)
    canary = await in_flight(house, 2, "canary", weight=0.1)
    house.now += timedelta(hours=1)
    with use(Context(ENGINEER)):
        assert await house.deployer.overdue() == ["credit"]
        await house.deployer.give_up("credit")
    assert (await house.deployment(canary.id)).state == "failed"
    assert shape(await last(house)) == [("champion", 1, "live", 1.0)]
