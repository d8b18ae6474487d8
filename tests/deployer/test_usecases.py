"""Deployments from the ask to serving, and back, on a real database."""

import asyncio
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import orjson
import pytest
from sqlalchemy import text

from contracts import (
    ApprovalRejected,
    ApprovalRevoked,
    DeploymentChanged,
    DeploymentSettled,
    Event,
    ModelRetired,
    MonitorSettings,
    RetrainingCompleted,
    Training,
)
from services.deployer.domain import Deployment
from services.deployer.usecases import Ask
from services.kit.context import Caller, Context, use
from services.kit.errors import Conflict, Invalid, NotFound, NotYet
from services.kit.signing import canonical

from .conftest import ENGINEER, NOW, OTHER_UNIT, House, registered, report, use_case

E = TypeVar("E", bound=Event)


async def published(house: House) -> list[DeploymentChanged]:
    """The desired states that were said, in order."""
    select = "SELECT value FROM outbox WHERE topic = 'deployment.changed' ORDER BY number"
    async with house.db.chassis() as session:
        return [
            DeploymentChanged.model_validate(orjson.loads(v))
            for v in (await session.execute(text(select))).scalars()
            if v is not None
        ]


async def values(house: House) -> list[str | None]:
    select = "SELECT value FROM outbox WHERE topic = 'deployment.changed' ORDER BY number"
    async with house.db.chassis() as session:
        return list((await session.execute(text(select))).scalars())


async def said(house: House, kind: type[E]) -> list[E]:
    select = "SELECT value FROM outbox WHERE topic = :topic ORDER BY number"
    async with house.db.chassis() as session:
        found = (await session.execute(text(select), {"topic": kind.topic.name})).scalars()
        return [kind.from_json(value.encode()) for value in found]


async def stories(house: House) -> list[str]:
    """The correlation ids of all that was said, in order."""
    async with house.db.chassis() as session:
        found = (await session.execute(text("SELECT headers FROM outbox ORDER BY number"))).scalars()
        return [dict(headers)["ce_correlationid"] for headers in found]


def retired(version: int = 1) -> ModelRetired:
    return ModelRetired(model="credit", version=version, retired_by="d", reason="biased")


def revoked(deployment: Deployment) -> ApprovalRevoked:
    return ApprovalRevoked(
        approval_id=deployment.approval_id or uuid4(), deployment_id=deployment.id, endpoint=deployment.endpoint,
        revoked_by="compliance", reason="no",
    )  # fmt: skip


async def test_a_granted_deployment_is_published_signed_and_serves_when_its_replica_says_so(house: House) -> None:
    await house.knows()
    deployment = await house.asks(streaming=True)
    await house.is_granted(deployment)
    assert (await house.deployment(deployment.id)).state == "rolling_out"
    await house.tends()
    [desired] = await published(house)
    assert (desired.revision, desired.variants[0].digest, desired.streaming) == (1, deployment.digest, True)
    house.keys.verify(canonical(desired, without=frozenset({"signature"})), desired.signature, owner="deployer")
    assert house.streams.opened == [("credit", "retail")]
    await house.hears(house.deployer.note_replica, report("credit", 1), "*")
    assert (await house.deployment(deployment.id)).state == "serving"


FORGERIES = {
    "digest": {"digest": "sha256:" + "0" * 64}, "endpoint": {"endpoint": "another"},
    "use_case": {"use_case": "another"}, "version": {"version": 2}, "another deployment": {"deployment_id": uuid4()},
    "requester": {"granted_by": ENGINEER.actor}, "ended": {"expires_at": NOW - timedelta(seconds=1)},
}  # fmt: skip


@pytest.mark.parametrize(("told", "forgery"), FORGERIES.items(), ids=FORGERIES)
async def test_a_grant_that_is_not_for_exactly_this_ends_the_deployment_and_says_why(
    house: House, told: str, forgery: dict[str, object]
) -> None:
    await house.knows()
    deployment = await house.asks(streaming=True)
    await house.is_granted(deployment, house.grant(deployment, **forgery))
    ended = await house.deployment(deployment.id)
    assert ended.state == "failed"
    assert told in (ended.reason or "")
    [settled] = await said(house, DeploymentSettled)
    assert (settled.deployment_id, settled.state, settled.reason) == (deployment.id, "failed", ended.reason)
    assert (await published(house), house.streams.opened) == ([], [])


async def test_a_grant_with_a_wrong_signature_ends_the_deployment_and_says_why(house: House) -> None:
    await house.knows()
    deployment = await house.asks()
    altered = house.grant(deployment).model_copy(
        update={"statement": house.grant(deployment, granted_by="x").statement}
    )
    await house.is_granted(deployment, altered)
    ended = await house.deployment(deployment.id)
    assert ended.state == "failed"
    assert "does not fit" in (ended.reason or "")


async def test_a_grant_of_a_version_that_was_retired_meanwhile_ends_the_deployment(house: House) -> None:
    await house.knows()
    deployment = await house.asks()
    await house.hears(house.deployer.forget_version, retired())
    await house.is_granted(deployment)
    assert "is retired" in ((await house.deployment(deployment.id)).reason or "")


async def test_a_grant_heard_again_or_late_changes_nothing(house: House) -> None:
    await house.knows()
    deployment = await house.serves(1)
    await house.is_granted(deployment, house.grant(deployment, digest="sha256:" + "0" * 64))
    assert (await house.deployment(deployment.id)).state == "serving"
    assert len(await published(house)) == 1


async def test_a_name_of_another_unit_gives_neither_topics_nor_rights(house: House) -> None:
    """What one unit's grant opens must never be the streams of another unit's endpoint."""
    await house.knows(registered(1))
    await house.hears(house.deployer.learn_use_case, use_case("saving", "wealth"), "wealth")
    await house.hears(house.deployer.learn_version, registered(1, model="foreign", unit="wealth"), "wealth")
    foreign: dict[str, Any] = {"use_case": "saving", "model": "foreign", "caller": OTHER_UNIT, "streaming": True}
    asked_early = await house.asks("credit", **foreign)
    first = await house.asks("credit", streaming=True)
    await house.is_granted(first)
    await house.tends()
    await house.is_granted(asked_early)
    await house.tends()
    assert house.streams.opened == [("credit", "retail")]
    with use(Context(OTHER_UNIT)):
        ended = await house.deployer.deployment(asked_early.id)
    assert ended.state == "failed"
    assert "taken" in (ended.reason or "")
    with pytest.raises(Conflict, match="taken"):
        await house.asks("credit", **foreign)
    assert (await house.endpoint()).unit == "retail"


async def test_a_name_stays_with_its_unit_after_the_endpoint_is_removed(house: House) -> None:
    await house.knows()
    await house.serves(1)
    await house.removes()
    await house.hears(house.deployer.learn_use_case, use_case("saving", "wealth"), "wealth")
    await house.hears(house.deployer.learn_version, registered(1, model="foreign", unit="wealth"), "wealth")
    with pytest.raises(Conflict, match="taken"):
        await house.asks("credit", use_case="saving", model="foreign", caller=OTHER_UNIT)


async def test_a_retired_streaming_endpoint_loses_its_rights_and_later_its_state(house: House) -> None:
    await house.knows()
    deployment = await house.asks(streaming=True)
    await house.is_granted(deployment)
    await house.tends()
    assert house.streams.closed == []
    await house.hears(house.deployer.forget_version, retired())
    await house.tends()
    await house.tends()
    assert house.streams.closed == ["credit"]
    assert len(await values(house)) == 2
    house.now += timedelta(days=1)
    await house.tends()
    await house.tends()
    assert [value is None for value in await values(house)] == [False, False, True]


async def test_an_endpoint_that_comes_back_is_opened_again_and_its_state_stays(house: House) -> None:
    await house.knows(registered(1), registered(2))
    first = await house.asks(streaming=True)
    await house.is_granted(first)
    await house.tends()
    await house.hears(house.deployer.forget_version, retired())
    await house.tends()
    again = await house.asks(version=2, streaming=False)
    assert not again.streaming
    await house.is_granted(await house.asks(version=2, streaming=True))
    house.now += timedelta(days=2)
    await house.tends()
    assert house.streams.opened == [("credit", "retail")] * 2
    assert [value is None for value in await values(house)] == [False, False, False]
    assert (await house.endpoint()).revision == 3


async def test_a_retirement_before_its_version_waits(house: House) -> None:
    with pytest.raises(NotYet):
        await house.hears(house.deployer.forget_version, retired())


async def test_a_rollout_that_is_asked_for_earlier_and_granted_later_does_not_push_out_the_newer(house: House) -> None:
    await house.knows(registered(1), registered(2))
    older = await house.asks(version=1)
    house.now += timedelta(seconds=1)
    newer = await house.asks(version=2)
    await house.is_granted(newer)
    await house.is_granted(older)
    assert "asked for later" in ((await house.deployment(older.id)).reason or "")
    assert (await house.endpoint()).variant.version == 2


async def test_a_rollout_that_overtakes_and_fails_leaves_the_one_that_served(house: House) -> None:
    await house.knows(registered(1), registered(2), registered(3))
    await house.serves(1)
    flying = await house.asks(version=2)
    house.now += timedelta(seconds=1)
    last = await house.asks(version=3)
    await house.is_granted(flying)
    await house.is_granted(last)
    assert (await house.deployment(flying.id)).reason == "overtaken by version 3"
    failed = report("credit", 3, "failed", reason="torn\x00file")
    await house.hears(house.deployer.note_replica, failed, "*")
    assert (await house.endpoint()).variant.version == 1
    settled = [(event.version, event.state) for event in await said(house, DeploymentSettled)]
    assert settled == [(1, "serving"), (2, "failed"), (3, "failed")]


async def test_all_that_is_said_of_a_deployment_belongs_to_the_story_of_its_ask(house: House) -> None:
    await house.knows(registered(1), registered(2))
    await house.serves(1)
    with use(Context(ENGINEER, "the-story")):
        ask = Ask("credit", "lending", "credit", 2, "direct", streaming=True)
        deployment = await house.deployer.request(ENGINEER, ask)
    before = len(await stories(house))
    await house.is_granted(deployment, story="the story of a person who grants")
    await house.hears(house.deployer.note_replica, report("credit", 2), "*")
    await house.hears(house.deployer.forget_version, retired(2), story="retirement")
    told = (await stories(house))[before:]
    assert set(told[:-3]) == {"the-story"}


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


async def test_a_share_of_payloads_is_said_with_what_serves_and_holds_for_the_next_versions(house: House) -> None:
    await house.knows(registered(1), registered(2))
    await house.serves(1)
    with use(Context(ENGINEER)):
        endpoint = await house.deployer.sample(ENGINEER, "credit", 0.25)
    assert (endpoint.variant.version, endpoint.revision, endpoint.monitor.payload_sample) == (1, 2, 0.25)
    await house.serves(2)
    states = await published(house)
    assert [(s.revision, s.variants[0].version, s.monitor.payload_sample) for s in states] == [
        (1, 1, 1.0), (2, 1, 0.25), (3, 2, 0.25),
    ]  # fmt: skip
    for state in states:
        house.keys.verify(canonical(state, without=frozenset({"signature"})), state.signature, "deployer")
    with use(Context(OTHER_UNIT)), pytest.raises(NotFound):
        await house.deployer.sample(OTHER_UNIT, "credit", 0.5)


async def test_an_endpoint_is_watched_as_its_champions_package_says(house: House) -> None:
    await house.knows(registered(1, monitor=MonitorSettings(season_s=86_400)), registered(2))
    await house.serves(1)
    with use(Context(ENGINEER)):
        await house.deployer.sample(ENGINEER, "credit", 0.25)
    assert (await house.endpoint()).monitor == MonitorSettings(season_s=86_400, payload_sample=0.25)
    await house.serves(2)
    assert (await house.endpoint()).monitor == MonitorSettings(payload_sample=0.25)
    await house.rolls_back()
    assert (await house.endpoint()).monitor == MonitorSettings(season_s=86_400, payload_sample=0.25)


async def test_a_share_that_is_given_while_a_version_rolls_out_goes_with_it(house: House) -> None:
    await house.knows()
    deployment = await house.asks()
    await house.is_granted(deployment)
    with use(Context(ENGINEER)):
        endpoint = await house.deployer.sample(ENGINEER, "credit", 0.0)
    await house.hears(house.deployer.note_replica, report("credit", endpoint.revision), "*")
    assert (await house.deployment(deployment.id)).state == "serving"


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
    await house.hears(house.deployer.revoke, revoked(second))
    assert (await house.endpoint()).variant.version == 1
    assert (await house.deployment(second.id)).state == "revoked"


async def test_a_retired_version_stops_serving_and_cannot_be_asked_for(house: House) -> None:
    await house.knows()
    await house.serves(1)
    await house.hears(house.deployer.forget_version, retired())
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


async def test_rollouts_at_once_leave_one_champion_and_growing_revisions(house: House) -> None:
    """Four at a time, as the service's pool serves them; whoever is first, the one asked for last wins."""
    await house.knows(registered(1), registered(2))
    deployments: list[Deployment] = []
    for n in range(8):
        house.now += timedelta(seconds=1)
        deployments.append(await house.asks(version=1 + n % 2))
    turns = asyncio.Semaphore(4)

    async def granted(deployment: Deployment) -> None:
        async with turns:
            await house.is_granted(deployment)

    await asyncio.gather(*(granted(d) for d in deployments))
    revisions = [state.revision for state in await published(house)]
    assert revisions == list(range(1, len(revisions) + 1))
    last = await house.endpoint()
    assert last.deployment_id == deployments[-1].id
    for _ in range(2):
        await house.hears(house.deployer.note_replica, report("credit", last.revision), "*")
    with use(Context(ENGINEER)):
        states = {d.id: d.state for d in await house.deployer.deployments("credit", None, 20)}
        async with house.db.reading() as session:
            assert (await session.execute(text("SELECT count(*) FROM serving WHERE champion"))).scalar() == 1
    assert states.pop(deployments[-1].id) == "serving"
    assert set(states.values()) <= {"replaced", "failed"}
