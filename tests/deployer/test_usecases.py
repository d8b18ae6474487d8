"""Deployments from the ask to serving, and back, on a real database."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import orjson
import pytest
from sqlalchemy import text

from contracts import ApprovalRejected, ApprovalRevoked, DeploymentChanged, ModelRetired, RetrainingCompleted, Training
from services.kit.context import Caller, Context, use
from services.kit.errors import Conflict, Forbidden, Invalid, NotFound, NotYet
from services.kit.signing import canonical

from .conftest import ENGINEER, OTHER_UNIT, House, registered, report


async def published(house: House) -> list[DeploymentChanged]:
    """The desired states that were said, in order."""
    select = "SELECT value FROM outbox WHERE topic = 'deployment.changed' ORDER BY number"
    async with house.db.chassis() as session:
        return [
            DeploymentChanged.model_validate(orjson.loads(v)) for v in (await session.execute(text(select))).scalars()
        ]


async def test_a_granted_deployment_is_published_signed_and_serves_when_its_replica_says_so(house: House) -> None:
    await house.knows()
    deployment = await house.asks(streaming=True)
    await house.is_granted(deployment)
    assert (await house.deployment(deployment.id)).state == "rolling_out"
    [desired] = await published(house)
    assert (desired.revision, desired.variants[0].digest, desired.streaming) == (1, deployment.digest, True)
    house.keys.verify(canonical(desired, without=frozenset({"signature"})), desired.signature, owner="deployer")
    assert house.streams.opened == [("credit", "retail")]
    await house.hears(house.deployer.note_replica, report("credit", 1), "*")
    assert (await house.deployment(deployment.id)).state == "serving"


async def test_nothing_rolls_out_without_a_grant_for_exactly_this(house: House) -> None:
    await house.knows()
    deployment = await house.asks()
    forgeries = [
        {"digest": "sha256:" + "0" * 64}, {"endpoint": "another"}, {"use_case": "another"}, {"version": 2},
        {"deployment_id": uuid4()}, {"granted_by": deployment.requested_by},
    ]  # fmt: skip
    for forgery in forgeries:
        with pytest.raises(Forbidden):
            await house.is_granted(deployment, house.grant(deployment, **forgery))
    altered = house.grant(deployment).model_copy(
        update={"statement": house.grant(deployment, granted_by="x").statement}
    )
    with pytest.raises(Forbidden, match="does not fit"):
        await house.is_granted(deployment, altered)
    assert await published(house) == []


async def test_a_grant_that_ended_starts_nothing(house: House) -> None:
    await house.knows()
    deployment = await house.asks()
    with pytest.raises(Conflict, match="ended"):
        await house.is_granted(deployment, house.grant(deployment, expires_at=house.now - timedelta(seconds=1)))


async def test_the_second_version_replaces_the_first_and_there_is_one_champion(house: House) -> None:
    await house.knows(registered(1), registered(2))
    first = await house.serves(1)
    second = await house.serves(2)
    assert second.state == "serving"
    assert (await house.deployment(first.id)).state == "replaced"
    assert [state.revision for state in await published(house)] == [1, 2]


async def test_a_rollback_serves_the_earlier_version_under_its_earlier_grant(house: House) -> None:
    await house.knows(registered(1), registered(2))
    await house.serves(1)
    await house.serves(2)
    house.now += timedelta(days=30)  # long after the grant's expiry
    with use(Context(ENGINEER)):
        endpoint = await house.deployer.roll_back(ENGINEER, "credit")
    assert (endpoint.variant.version, endpoint.revision) == (1, 3)
    await house.hears(house.deployer.note_replica, report("credit", 3), "*")
    assert (await house.endpoint()).variant.version == 1


async def test_without_an_earlier_version_there_is_nothing_to_roll_back_to(house: House) -> None:
    await house.knows()
    await house.serves(1)
    with use(Context(ENGINEER)), pytest.raises(Conflict, match="no earlier version"):
        await house.deployer.roll_back(ENGINEER, "credit")


async def test_a_version_that_a_replica_cannot_load_is_rolled_back_by_itself(house: House) -> None:
    await house.knows(registered(1), registered(2))
    await house.serves(1)
    second = await house.asks(version=2)
    await house.is_granted(second)
    await house.hears(house.deployer.note_replica, report("credit", 2, "failed", reason="digest differs"), "*")
    failed = await house.deployment(second.id)
    assert failed.state == "failed"
    assert "digest differs" in (failed.reason or "")
    assert ((await house.endpoint()).variant.version, (await house.endpoint()).revision) == (1, 3)


async def test_a_first_version_that_cannot_load_takes_the_endpoint_down(house: House) -> None:
    await house.knows()
    deployment = await house.asks()
    await house.is_granted(deployment)
    await house.hears(house.deployer.note_replica, report("credit", 1, "failed", reason="broken"), "*")
    assert (await house.deployment(deployment.id)).state == "failed"
    assert (await house.endpoint()).state == "removed"
    assert [state.state for state in await published(house)] == ["serving", "removed"]


async def test_a_report_of_an_earlier_revision_proves_nothing(house: House) -> None:
    await house.knows(registered(1), registered(2))
    await house.serves(1)
    second = await house.asks(version=2)
    await house.is_granted(second)
    await house.hears(house.deployer.note_replica, report("credit", 1), "*")
    assert (await house.deployment(second.id)).state == "rolling_out"


async def test_a_revoked_approval_ends_serving(house: House) -> None:
    await house.knows(registered(1), registered(2))
    await house.serves(1)
    second = await house.serves(2)
    revoked = ApprovalRevoked(
        approval_id=uuid4(), deployment_id=second.id, endpoint="credit", revoked_by="compliance", reason="no"
    )
    await house.hears(house.deployer.revoke, revoked)
    assert (await house.endpoint()).variant.version == 1
    assert (await house.deployment(second.id)).state == "revoked"


async def test_a_retired_version_stops_serving_and_cannot_be_asked_for(house: House) -> None:
    await house.knows()
    await house.serves(1)
    retired = ModelRetired(model="credit", version=1, retired_by="d", reason="biased")
    await house.hears(house.deployer.forget_version, retired)
    assert (await house.endpoint()).state == "removed"
    with pytest.raises(Conflict, match="retired"):
        await house.asks()


async def test_a_rejected_ask_says_why(house: House) -> None:
    await house.knows()
    deployment = await house.asks()
    event = ApprovalRejected(
        approval_id=uuid4(), deployment_id=deployment.id, endpoint="credit", rejected_by="policy 1", reason="scan"
    )
    await house.hears(house.deployer.refuse, event)
    assert (await house.deployment(deployment.id)).reason == "policy 1: scan"


@pytest.mark.parametrize(
    ("ask", "error"),
    [({"use_case": "nobody"}, NotFound), ({"model": "nobody"}, NotFound), ({"version": 9}, NotFound)],
)
async def test_an_ask_for_what_is_not_there_is_refused(
    house: House, ask: dict[str, object], error: type[Exception]
) -> None:
    await house.knows()
    with pytest.raises(error):
        await house.asks(**ask)  # pyright: ignore


async def test_an_endpoint_belongs_to_one_use_case(house: House) -> None:
    from .conftest import use_case

    await house.knows()
    await house.serves(1)
    await house.hears(house.deployer.learn_use_case, use_case("selling"))
    with pytest.raises(Conflict, match="another name"):
        await house.asks(use_case="selling")


async def test_a_model_of_another_unit_is_refused(house: House) -> None:
    admin = Caller("admin", "person", frozenset({"admin"}), frozenset({"*"}))
    await house.knows()
    foreign = registered(1, model="foreign", unit="wealth")
    await house.hears(house.deployer.learn_version, foreign, "wealth")
    with pytest.raises(Invalid, match="business unit"):
        await house.asks(model="foreign", caller=admin)


async def test_another_unit_neither_sees_nor_asks(house: House) -> None:
    await house.knows()
    deployment = await house.serves(1)
    with pytest.raises(NotFound):
        await house.asks(caller=OTHER_UNIT)
    with use(Context(OTHER_UNIT)):
        assert await house.deployer.deployments(None, None, 10) == []
        with pytest.raises(NotFound):
            await house.deployer.deployment(deployment.id)
        with pytest.raises(NotFound):
            await house.deployer.roll_back(OTHER_UNIT, "credit")


def completed(retraining_id: object, outcome: str = "candidate_won") -> RetrainingCompleted:
    return RetrainingCompleted.model_validate({
        "retraining_id": str(retraining_id), "model": "credit", "champion_version": 1, "endpoint": "credit",
        "use_case": "lending", "outcome": outcome, "reason": "better", "requested_by": "service:governor",
    })  # fmt: skip


async def test_a_candidate_that_won_is_asked_for_once_when_it_is_registered(house: House) -> None:
    await house.knows()
    await house.serves(1)
    id = uuid4()
    with pytest.raises(NotYet):
        await house.hears(house.deployer.request_promotion, completed(id))
    await house.hears(house.deployer.learn_version, registered(2, training=Training(retraining_id=str(id))))
    for _ in range(2):
        await house.hears(house.deployer.request_promotion, completed(id))
    with use(Context(ENGINEER)):
        asked = [d for d in await house.deployer.deployments("credit", None, 10) if d.retraining_id == id]
    assert [(d.version, d.requested_by, d.state) for d in asked] == [(2, "service:deployer", "requested")]


async def test_a_candidate_that_lost_changes_nothing(house: House) -> None:
    await house.knows()
    await house.hears(house.deployer.request_promotion, completed(uuid4(), "champion_kept"))
    with use(Context(ENGINEER)):
        assert await house.deployer.deployments("credit", None, 10) == []


async def test_fifty_rollouts_at_once_leave_one_champion_and_growing_revisions(house: House) -> None:
    await house.knows(registered(1), registered(2))
    deployments = [await house.asks(version=1 + n % 2) for n in range(10)]
    await asyncio.gather(*(house.is_granted(d) for d in deployments))
    assert [state.revision for state in await published(house)] == list(range(1, 11))
    last = (await house.endpoint()).revision
    await asyncio.gather(*(house.hears(house.deployer.note_replica, report("credit", last), "*") for _ in range(10)))
    with use(Context(ENGINEER)):
        states = [d.state for d in await house.deployer.deployments("credit", None, 20)]
        async with house.db.reading() as session:
            assert (await session.execute(text("SELECT count(*) FROM serving WHERE champion"))).scalar() == 1
    assert sorted(states) == ["replaced"] * 9 + ["serving"]
