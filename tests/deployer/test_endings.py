"""Who serves when a version leaves, what is said of it, and what Kafka has to do with it."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from contracts import AlertRaised, AlertResolved, ApprovalRejected, DeploymentSettled
from services.kit.context import Context, use
from services.kit.errors import Conflict, Unavailable
from services.kit.signing import canonical

from .conftest import ENGINEER, House, registered, report
from .test_usecases import published, retired, revoked, said


async def three(house: House) -> None:
    await house.knows(registered(1), registered(2), registered(3))


async def states(house: House) -> dict[int, str]:
    """The state of each version's deployment at the endpoint."""
    with use(Context(ENGINEER)):
        return {d.version: d.state for d in await house.deployer.deployments("credit", None, 20)}


async def test_an_endpoint_that_is_removed_during_a_rollout_leaves_nothing_serving(house: House) -> None:
    await three(house)
    await house.serves(1)
    await house.is_granted(await house.asks(version=2))
    await house.removes()
    assert await states(house) == {1: "removed", 2: "removed"}
    await house.is_granted(await house.asks(version=3))
    await house.hears(house.deployer.note_replica, report("credit", 4, "failed", reason="broken"), "*")
    assert (await house.endpoint()).state == "removed"


async def test_a_version_that_retires_while_it_rolls_out_leaves_the_one_that_serves(house: House) -> None:
    await three(house)
    await house.serves(1)
    await house.is_granted(await house.asks(version=2))
    await house.hears(house.deployer.forget_version, retired(2))
    endpoint = await house.endpoint()
    assert (endpoint.state, endpoint.variant.version) == ("serving", 1)
    assert (await states(house))[2] == "removed"


async def test_a_version_that_retires_while_its_successor_rolls_out_never_comes_back(house: House) -> None:
    await three(house)
    await house.serves(1)
    await house.is_granted(await house.asks(version=2))
    await house.hears(house.deployer.forget_version, retired(1))
    assert (await house.endpoint()).variant.version == 2
    assert await states(house) == {1: "removed", 2: "rolling_out"}
    await house.hears(house.deployer.note_replica, report("credit", 3, "failed", reason="broken"), "*")
    assert (await house.endpoint()).state == "removed"


async def test_an_ask_for_a_version_that_retires_is_over(house: House) -> None:
    await three(house)
    deployment = await house.asks()
    await house.hears(house.deployer.forget_version, retired(1))
    assert (await house.deployment(deployment.id)).state == "failed"
    [settled] = await said(house, DeploymentSettled)
    assert (settled.deployment_id, settled.state) == (deployment.id, "failed")


async def test_a_version_that_was_rolled_back_is_not_brought_back(house: House) -> None:
    await three(house)
    await house.serves(1)
    await house.serves(2)
    await house.rolls_back()
    assert await states(house) == {1: "rolling_out", 2: "rolled_back"}
    await house.hears(house.deployer.note_replica, report("credit", 3), "*")
    with pytest.raises(Conflict, match="no earlier version"):
        await house.rolls_back()
    await house.hears(house.deployer.forget_version, retired(1))
    assert (await house.endpoint()).state == "removed"


async def test_every_deployment_is_settled_once_whatever_becomes_of_it_later(house: House) -> None:
    await three(house)
    first, second = await house.serves(1), await house.serves(2)
    await house.rolls_back()
    await house.hears(house.deployer.note_replica, report("credit", 3), "*")
    rejected = await house.asks(version=3)
    no = ApprovalRejected(
        approval_id=uuid4(), deployment_id=rejected.id, endpoint="credit", rejected_by="compliance", reason="biased"
    )
    for _ in range(2):
        await house.hears(house.deployer.refuse, no)
    settled = [(event.deployment_id, event.state, event.reason) for event in await said(house, DeploymentSettled)]
    assert settled == [
        (first.id, "serving", None), (second.id, "serving", None), (rejected.id, "failed", "compliance: biased")
    ]  # fmt: skip


# Topics


async def test_an_endpoint_is_held_by_nobody_while_kafka_makes_its_topics(house: House) -> None:
    """What else happens to it goes on: here it is removed meanwhile, and what was made is closed again."""
    await three(house)
    await house.is_granted(await house.asks(streaming=True))
    house.streams.meanwhile = house.removes
    await house.tends()
    house.streams.meanwhile = None
    assert [state.state for state in await published(house)] == ["removed"]
    await house.tends()
    assert (house.streams.opened, house.streams.closed) == ([("credit", "retail")], ["credit"])


async def test_an_endpoint_that_comes_back_while_its_topics_are_closed_gets_them_again(house: House) -> None:
    await three(house)
    await house.is_granted(await house.asks(streaming=True))
    await house.tends()
    await house.removes()

    async def comes_back() -> None:
        await house.is_granted(await house.asks(version=2, streaming=True))

    house.streams.meanwhile = comes_back
    await house.tends()
    house.streams.meanwhile = None
    await house.tends()
    assert house.streams.opened == [("credit", "retail")] * 2
    assert (await published(house))[-1].variants[0].version == 2


async def test_a_state_whose_topics_are_not_there_is_not_said_and_kafka_is_asked_again(house: House) -> None:
    await three(house)
    deployment = await house.asks(streaming=True)
    await house.is_granted(deployment)

    async def away() -> None:
        raise Unavailable("Kafka is away")

    house.streams.meanwhile = away
    with pytest.raises(Unavailable):
        await house.tends()
    assert await published(house) == []
    assert (await house.deployment(deployment.id)).state == "rolling_out"
    house.streams.meanwhile = None
    await house.tends()
    assert [state.streaming for state in await published(house)] == [True]


async def test_topics_that_kafka_refuses_end_the_rollout_and_what_served_goes_on_without(house: House) -> None:
    await three(house)
    await house.serves(1)
    second = await house.asks(version=2, streaming=True)
    await house.is_granted(second)
    house.streams.refuse("Kafka refuses inference.requested.credit: too many partitions")
    await house.tends()
    ended = await house.deployment(second.id)
    assert (ended.state, "too many partitions" in (ended.reason or "")) == ("failed", True)
    endpoint = await house.endpoint()
    assert (endpoint.state, endpoint.variant.version, endpoint.streaming) == ("serving", 1, False)
    assert (await said(house, DeploymentSettled))[-1].state == "failed"
    house.streams.meanwhile = None
    await house.tends()
    assert house.streams.closed == ["credit"]


async def test_a_version_after_one_that_streams_needs_no_new_topics(house: House) -> None:
    await three(house)
    await house.is_granted(await house.asks(streaming=True))
    await house.tends()
    house.streams.refuse("nothing more")
    house.now += timedelta(minutes=1)
    await house.is_granted(await house.asks(version=2))
    assert [(state.revision, state.streaming) for state in await published(house)] == [(1, True), (2, True)]


async def test_rights_that_kafka_will_not_take_back_are_told_and_tried_again_after_a_while(house: House) -> None:
    await three(house)
    await house.is_granted(await house.asks(streaming=True))
    await house.tends()
    await house.removes()
    house.streams.refuse("Kafka refuses credit: not authorised")
    for _ in range(2):
        await house.tends()
    [alert] = await said(house, AlertRaised)
    assert (alert.subject, alert.severity, "not authorised" in alert.detail) == ("credit", "critical", True)
    house.streams.meanwhile = None
    await house.tends()
    assert house.streams.closed == []
    house.now += timedelta(minutes=6)
    await house.tends()
    assert (house.streams.closed, len(await said(house, AlertResolved))) == (["credit"], 1)


async def test_one_process_at_a_time_works_on_an_endpoints_topics(house: House) -> None:
    await three(house)
    await house.is_granted(await house.asks(streaming=True))
    async with house.db.engine.connect() as other:
        await other.execute(text("SELECT pg_advisory_lock(hashtextextended('topics credit', 12))"))
        await house.tends()
        assert house.streams.opened == []
        await other.execute(text("SELECT pg_advisory_unlock_all()"))
    await house.tends()
    assert house.streams.opened == [("credit", "retail")]


async def test_a_revoked_version_is_withdrawn_at_once_while_its_successor_rolls_out(house: House) -> None:
    await three(house)
    one = await house.serves(1)
    await house.is_granted(await house.asks(version=2))
    await house.hears(house.deployer.revoke, revoked(one))
    [*_, before, last] = await published(house)
    assert (before.withdrawn, last.withdrawn) == ((), (one.approval_id,))
    assert (last.revision, last.variants) == (before.revision + 1, before.variants)
    house.keys.verify(canonical(last, without=frozenset({"signature"})), last.signature, owner="deployer")
    await house.hears(house.deployer.note_replica, report("credit", last.revision), "*")
    assert await states(house) == {1: "revoked", 2: "serving"}


async def test_a_retired_version_is_withdrawn_at_once_while_its_successor_rolls_out(house: House) -> None:
    await three(house)
    one = await house.serves(1)
    await house.is_granted(await house.asks(version=2))
    await house.hears(house.deployer.forget_version, retired(1))
    assert (await published(house))[-1].withdrawn == (one.approval_id,)
    await house.hears(house.deployer.forget_version, retired(1))
    assert (await house.endpoint()).revision == 3


async def test_what_was_withdrawn_stays_withdrawn_in_every_later_state(house: House) -> None:
    """A scorer that was away reads the last state only, and may still serve the oldest version."""
    await three(house)
    await house.serves(1)
    two = await house.serves(2)
    await house.hears(house.deployer.revoke, revoked(two))
    last = (await published(house))[-1]
    assert (last.variants[0].version, last.withdrawn) == (1, (two.approval_id,))
    await house.hears(house.deployer.note_replica, report("credit", last.revision), "*")
    await house.serves(3)
    assert (await published(house))[-1].withdrawn == (two.approval_id,)


async def test_a_withdrawal_does_not_wait_for_the_topics_of_the_successor(house: House) -> None:
    await three(house)
    one = await house.serves(1)
    await house.is_granted(await house.asks(version=2, streaming=True))
    await house.hears(house.deployer.revoke, revoked(one))
    stopped = (await published(house))[-1]
    assert (stopped.revision, stopped.streaming, stopped.withdrawn) == (3, False, (one.approval_id,))
    await house.tends()
    opened = (await published(house))[-1]
    assert (opened.revision, opened.streaming, opened.withdrawn) == (4, True, (one.approval_id,))
    await house.hears(house.deployer.note_replica, report("credit", 4), "*")
    assert await states(house) == {1: "revoked", 2: "serving"}
