"""The life cycle as events tell it, on a real database."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from contracts import (
    AlertRaised,
    AlertResolved,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    CandidateRefused,
    InfluenceEvidence,
    ModelRetired,
    PerformanceEvidence,
    ReplicaReported,
    RetrainingCompleted,
    RetrainingRequested,
    Scan,
    Training,
)
from services.governor.usecases.approvals import evidence_digest
from services.kit.alerts import alert_id
from services.kit.context import Context, use
from services.kit.errors import Conflict, NotYet
from services.kit.ids import now
from services.kit.signing import KeyRing, canonical
from tests.governor.builders import NOW, changed, deployment, drift, model, settled, use_case
from tests.governor.conftest import House, person


async def test_a_request_comes_before_its_model_and_waits(house: House) -> None:
    with pytest.raises(NotYet, match="use case lending"):
        await house.hear(deployment())
    await house.hear(use_case())
    with pytest.raises(NotYet, match="credit version 1"):
        await house.hear(deployment())


async def test_a_sound_request_asks_a_person_once(house: House) -> None:
    asked = await house.asked()
    await house.hear(asked)  # the same request in another event
    (event,) = await house.said()
    assert isinstance(event, ApprovalRequested)
    assert (event.endpoint, event.digest, event.requested_by) == ("credit-live", asked.digest, "engineer")
    assert all(gate.passed for gate in event.gates)
    assert event.evidence_digest == evidence_digest(event.gates)


async def test_a_failed_gate_rejects_with_its_facts(house: House) -> None:
    await house.hear(use_case())
    await house.hear(model(scan=Scan(verdict="suspicious", scanner="test", findings=("os.system",))))
    await house.hear(deployment())
    (event,) = await house.said()
    assert isinstance(event, ApprovalRejected)
    assert event.rejected_by == "service:governor"
    assert "security-scan-clean" in event.reason
    (gate,) = [gate for gate in event.gates if not gate.passed]
    assert gate.facts["verdict"] == "suspicious"
    assert gate.facts["findings"] == 1
    assert await house.rows("SELECT state, outcome FROM process") == [{"state": "ended", "outcome": "rejected"}]


async def test_the_same_model_in_a_regulated_use_case_follows_stricter_gates(house: House) -> None:
    weak = model(training=Training(metrics={"accuracy": 0.65}))
    await house.hear(weak)
    for name, tier in (("free", 2), ("regulated", 4)):
        await house.hear(use_case(use_case=name, risk_tier=tier))
        await house.hear(deployment(use_case=name, endpoint=f"on-{name}"))
    events = await house.said()
    assert [(type(event), event.key) for event in events] == [
        (ApprovalRequested, "on-free"),
        (ApprovalRejected, "on-regulated"),
    ]


async def test_a_grant_is_signed_over_what_was_asked_and_awaited_as_long_as_it_lasts(house: House) -> None:
    house.governor.approvals._lasts = timedelta(hours=48)
    asked = await house.asked()
    approval = await house.approval_of(asked)
    with use(Context(person("compliance"))):
        await house.governor.approvals.decide(approval, person("compliance"), "grant", "evidence is sound")
    (event,) = await house.said(ApprovalGranted)
    assert isinstance(event, ApprovalGranted)
    statement = event.grant.statement
    KeyRing(house.settings.keys / "public").verify(canonical(statement), event.grant.signature, owner="governor")
    assert (statement.digest, statement.endpoint, statement.granted_by) == (asked.digest, "credit-live", "compliance")
    (row,) = await house.rows("SELECT awaits, due FROM process")
    assert row["awaits"] == ["approval.revoked", "deployment.changed", "deployment.settled"]
    assert abs(row["due"] - statement.expires_at) < timedelta(minutes=1)


async def test_of_fifty_decisions_at_once_one_wins(house: House) -> None:
    approval = await house.approval_of(await house.asked())

    async def decide(number: int) -> str:
        who = person("admin" if number % 2 else "compliance", "*")
        with use(Context(who)):
            done = await house.governor.approvals.decide(approval, who, "grant" if number % 3 else "reject", "race")
        return done.state

    results = await asyncio.gather(*(decide(n) for n in range(50)), return_exceptions=True)
    (winner,) = [result for result in results if isinstance(result, str)]
    assert all(isinstance(result, (str, Conflict)) for result in results)
    (event,) = await house.said(ApprovalGranted, ApprovalRejected)
    assert isinstance(event, ApprovalGranted) == (winner == "granted")


async def test_a_rollout_ends_the_process_and_a_repeat_changes_nothing(house: House) -> None:
    await house.in_business()
    assert await house.rows("SELECT outcome FROM process") == [{"outcome": "in_business"}]
    assert await house.rows("SELECT version, revision FROM endpoint") == [{"version": 1, "revision": 1}]
    assert await house.rows("SELECT * FROM mailbox") == []


async def test_a_retired_model_is_not_approved_any_more(house: House) -> None:
    await house.asked()
    await house.hear(ModelRetired(model="credit", version=1, retired_by="compliance", reason="flaw"))
    await house.fire_timers()
    event = (await house.said())[-1]
    assert isinstance(event, ApprovalRejected)
    assert "retired meanwhile: flaw" in event.reason
    await house.hear(deployment(endpoint="another"))
    again = (await house.said())[-1]
    assert isinstance(again, ApprovalRejected)
    assert "not-retired" in again.reason


async def test_a_retirement_before_its_model_waits(house: House) -> None:
    with pytest.raises(NotYet):
        await house.hear(ModelRetired(model="credit", version=1, retired_by="compliance", reason="flaw"))
    await house.fire_timers()


async def test_mail_that_the_process_does_not_wait_for_is_kept(house: House) -> None:
    """A retirement after the grant: the process waits for its rollout and takes no notice, nothing is lost."""
    asked = await house.asked()
    approval = await house.approval_of(asked)
    with use(Context(person("compliance"))):
        await house.governor.approvals.decide(approval, person("compliance"), "grant", "fine")
    await house.hear(ModelRetired(model="credit", version=1, retired_by="compliance", reason="flaw"))
    await house.fire_timers()
    assert [row["message"] for row in await house.rows("SELECT message FROM mailbox")] == ["model.retired"]
    (row,) = await house.rows("SELECT state, awaits FROM process")
    assert row["state"] == "running"


async def test_a_revoked_grant_says_so_and_ends_its_process(house: House) -> None:
    asked = await house.asked()
    approval = await house.approval_of(asked)
    with use(Context(person("compliance"))):
        await house.governor.approvals.decide(approval, person("compliance"), "grant", "fine")
        await house.governor.approvals.revoke(approval, person("compliance"), "found a flaw")
    event = (await house.said())[-1]
    assert isinstance(event, ApprovalRevoked)
    assert (event.deployment_id, event.revoked_by, event.reason) == (asked.deployment_id, "compliance", "found a flaw")
    assert await house.rows("SELECT outcome FROM process") == [{"outcome": "withdrawn"}]


async def test_a_drift_asks_for_one_retraining_however_often_it_is_told(house: House) -> None:
    await house.in_business()
    told = await house.hear(drift())
    await house.hear(drift(), id=told)
    await house.hear(drift())
    (event,) = await house.said(RetrainingRequested)
    assert isinstance(event, RetrainingRequested)
    assert (event.cause, event.cause_id, event.since, event.version) == ("drift", told, NOW, 1)
    (alert,) = await house.rows("SELECT subject, state, times, retraining_id FROM alert")
    assert alert == {"subject": "credit-live", "state": "open", "times": 2, "retraining_id": event.retraining_id}


async def test_an_alert_tells_the_segment_and_the_cost_where_they_are_known(house: House) -> None:
    await house.in_business()
    await house.hear(drift(segment="colour = 2"))
    worse = PerformanceEvidence(
        metric="error rate", before=0.1, now=0.3, interval=(0.2, 0.4), labelled=500, cost_per_1000=1_400.0
    )
    await house.hear(drift(performance=worse))
    told = await house.rows("SELECT kind, title, segment, cost FROM alert ORDER BY kind")
    assert [(each["kind"], each["segment"], each["cost"]) for each in told] == [
        ("drift", "colour = 2", None), ("performance", None, "1,400.00 in 1,000 decisions, by the value matrix"),
    ]  # fmt: skip
    assert told[0]["title"].endswith("where colour = 2")


async def test_decisions_on_other_grounds_are_an_alert_of_their_own(house: House) -> None:
    await house.in_business()
    await house.hear(drift())
    grounds = InfluenceEvidence(column="SCHL", before=0.2, now=0.5)
    await house.hear(drift(attributions=(grounds,)))
    told = await house.rows("SELECT kind, title, how_much FROM alert ORDER BY kind")
    assert [each["kind"] for each in told] == ["attribution-drift", "drift"]
    assert "decides on other grounds" in told[0]["title"]
    assert told[0]["how_much"].startswith("SCHL grew from 20.0% to 50.0% of all influence")
    assert len(await house.said(RetrainingRequested)) == 1


async def test_a_drift_and_a_person_at_once_make_one_retraining(house: House) -> None:
    await house.in_business()
    engineer = person("engineer")

    async def by_person() -> Any:
        with use(Context(engineer)):
            return await house.governor.retrainings.ask(engineer, "credit-live", "looks odd", None)

    results = await asyncio.gather(
        house.hear(drift()), by_person(), house.hear(drift()), by_person(), return_exceptions=True
    )
    assert len(await house.said(RetrainingRequested)) == 1
    assert all(isinstance(result, (str, Conflict, RetrainingRequested)) for result in results)


@pytest.mark.parametrize("reason", ["not asked for", "no recipe"])
async def test_not_every_drift_leads_to_a_retraining(house: House, reason: str) -> None:
    await house.hear(model(retrainable=reason != "no recipe"))
    await house.in_business()
    await house.hear(drift(retrain=reason != "not asked for"))
    assert await house.said(RetrainingRequested) == []
    assert len(await house.rows("SELECT 1 FROM alert")) == 1


async def test_a_drift_of_a_version_that_does_not_serve_waits_a_while_and_raises_no_alarm(house: House) -> None:
    await house.in_business()
    with pytest.raises(NotYet, match="version 2"):
        await house.hear(drift(version=2))
    await house.hear(drift(version=2), said_at=now() - timedelta(minutes=2))
    assert await house.said(RetrainingRequested) == []
    assert await house.rows("SELECT 1 FROM alert") == []


async def test_a_removed_endpoint_leaves_no_alarm_and_its_late_drifts_raise_none(house: House) -> None:
    event = await house.in_business()
    await house.hear(drift())
    (granted,) = await house.said(ApprovalGranted)
    assert isinstance(granted, ApprovalGranted)
    await house.hear(changed(granted.grant, revision=2, state="removed", variants=()))
    (alert,) = await house.rows("SELECT state, resolution FROM alert")
    assert alert == {"state": "resolved", "resolution": f"{event.endpoint} was removed"}
    await house.hear(drift())
    assert [row["state"] for row in await house.rows("SELECT state FROM alert")] == ["resolved"]


async def test_a_promotion_that_is_refused_frees_the_alarm(house: House) -> None:
    await house.in_business()
    await house.hear(drift())
    asked = await retraining(house)
    await house.hear(completed(asked, "candidate_won"))
    await house.hear(model(version=2))
    request = deployment(version=2, requested_by="service:deployer", retraining_id=asked.retraining_id)
    await house.hear(request)
    await house.hear(drift())
    assert len(await house.said(RetrainingRequested)) == 1
    approval = await house.approval_of(request)
    with use(Context(person("compliance", "*"))):
        await house.governor.approvals.decide(approval, person("compliance", "*"), "reject", "not this one")
    await house.hear(drift())
    assert len(await house.said(RetrainingRequested)) == 2


async def test_a_refused_candidate_ends_its_retraining_with_the_reason_and_frees_the_alarm(house: House) -> None:
    await house.in_business()
    await house.hear(drift())
    asked = await retraining(house)
    reason = "the candidate of credit calls itself other"
    await house.hear(refused(asked, reason))  # of another topic than what the process waits for first
    await house.hear(completed(asked, "candidate_won"))
    (process,) = await house.rows("SELECT state, outcome FROM process WHERE template = 'retraining'")
    assert process == {"state": "ended", "outcome": "candidate_refused"}
    assert [row.detail["reason"] for row in await house.audit() if row.action == "process.ended"][-1] == reason
    await house.hear(drift())
    assert len(await house.said(RetrainingRequested)) == 2


async def test_a_refused_grant_ends_the_life_cycle_with_its_reason(house: House) -> None:
    asked = await house.asked()
    with use(Context(person("compliance"))):
        await house.governor.approvals.decide(await house.approval_of(asked), person("compliance"), "grant", "fine")
    await house.hear(settled(asked, state="failed", reason="the grant does not hold: another digest"))
    assert await house.rows("SELECT state, outcome FROM process") == [{"state": "ended", "outcome": "failed"}]
    (recorded,) = [row for row in await house.audit() if row.action == "process.ended"]
    assert recorded.detail["reason"] == "the grant does not hold: another digest"


async def test_what_a_rollout_came_to_is_not_heard_before_its_request(house: House) -> None:
    with pytest.raises(NotYet):
        await house.hear(settled(deployment()))


async def test_a_replica_is_not_heard_before_what_it_serves(house: House) -> None:
    with pytest.raises(NotYet):
        await house.hear(serving())


async def test_one_story_runs_through_a_whole_life_cycle(house: House) -> None:
    await house.hear(use_case())
    await house.hear(model())
    asked = deployment()
    await house.hear(asked, story="the-story")
    approval = await house.approval_of(asked)
    with use(Context(person("compliance"), "a person's own request")):
        await house.governor.approvals.decide(approval, person("compliance"), "grant", "fine")
        await house.governor.approvals.revoke(approval, person("compliance"), "flaw")
    told = await house.rows("SELECT topic, headers FROM outbox ORDER BY number")
    assert {row["topic"] for row in told} > {"approval.requested", "approval.granted", "approval.revoked"}
    assert {dict(row["headers"])["ce_correlationid"] for row in told} == {"the-story"}
    assert {row.correlation_id for row in await house.audit()} == {"the-story"}


async def test_what_a_timer_or_a_retirement_moves_belongs_to_the_story_too(house: House) -> None:
    await house.hear(use_case())
    await house.hear(model())
    await house.hear(deployment(), story="the-story")
    retired = ModelRetired(model="credit", version=1, retired_by="compliance", reason="flaw")
    await house.hear(retired, story="the retirement")
    await house.fire_timers()
    assert {row.correlation_id for row in await house.audit()} == {"the-story"}


async def test_a_life_cycle_that_cannot_go_on_stops_no_other_and_is_told(house: House) -> None:
    await house.hear(use_case())
    await house.hear(model())
    broken, sound = deployment(endpoint="broken"), deployment(endpoint="sound")
    await house.hear(broken)
    await house.hear(sound)
    spoil = (
        "UPDATE process SET workflow = workflow || '{\"kept\": 1, \"spec\": 1}' WHERE endpoint = 'broken' RETURNING 1"
    )
    before = await house.rows("SELECT workflow FROM process WHERE endpoint = 'broken'")
    await house.rows(spoil)
    await house.hear(ModelRetired(model="credit", version=1, retired_by="compliance", reason="flaw"))
    await house.fire_timers()
    states = {row["endpoint"]: row["state"] for row in await house.rows("SELECT endpoint, state FROM process")}
    assert states == {"broken": "running", "sound": "ended"}
    (alert,) = await house.said(AlertRaised)
    assert isinstance(alert, AlertRaised)
    assert alert.kind == "process-stuck"
    (row,) = await house.rows("SELECT due > now() + interval '1 min' AS later FROM process WHERE state = 'running'")
    assert row["later"]
    await house.execute(
        "UPDATE process SET due = now(), workflow = CAST(:workflow AS jsonb) WHERE endpoint = 'broken'",
        workflow=orjson.dumps(before[0]["workflow"]).decode(),
    )
    await house.fire_timers()
    assert await house.rows("SELECT 1 FROM process WHERE state = 'running'") == []
    (over,) = await house.said(AlertResolved)
    assert isinstance(over, AlertResolved)
    assert over.alert_id == alert.alert_id


async def test_whatever_moves_a_stuck_life_cycle_on_ends_its_alert(house: House) -> None:
    """A person or an event may be faster than the timer; then no timer is due any more that could tell."""
    asked = await house.asked()
    await house.execute("UPDATE process SET stuck = true")
    with use(Context(person("compliance"))):
        await house.governor.approvals.decide(await house.approval_of(asked), person("compliance"), "reject", "no")
    (over,) = await house.said(AlertResolved)
    (process,) = await house.rows("SELECT id, stuck FROM process")
    assert isinstance(over, AlertResolved)
    assert (over.alert_id, process["stuck"]) == (alert_id("process-stuck", str(process["id"])), False)


async def test_a_retirement_calls_the_timers_once_it_is_committed(house: House) -> None:
    """Moving processes on within the handler would make a dead letter of a retirement that is done already."""
    await house.asked()
    job = asyncio.create_task(house.governor.life_cycle.wake_due())
    try:
        await asyncio.sleep(0.5)  # it looked once and waits for its timer now
        await house.hear(ModelRetired(model="credit", version=1, retired_by="compliance", reason="flaw"))
        assert await house.rows("SELECT 1 FROM process WHERE state = 'ended'") == []
        async with asyncio.timeout(10):
            while not await house.rows("SELECT 1 FROM process WHERE state = 'ended'"):
                await asyncio.sleep(0.05)
    finally:
        job.cancel()


async def test_an_alarm_of_a_drift_is_said_like_every_alert_and_counted_once(house: House) -> None:
    await house.in_business()
    await house.hear(drift())
    (alarm,) = await house.said(AlertRaised)
    await house.hear(alarm, source="/fairlead/governor")
    (alert,) = await house.rows("SELECT id, unit, source, times FROM alert")
    assert isinstance(alarm, AlertRaised)
    assert (alarm.kind, alarm.alert_id) == ("drift", alert["id"])
    assert (alert["unit"], alert["source"], alert["times"]) == ("retail", "/fairlead/governor", 1)
    (granted,) = await house.said(ApprovalGranted)
    assert isinstance(granted, ApprovalGranted)
    for revision in (2, 3):
        await house.hear(changed(granted.grant, revision=revision, state="removed", variants=()))
    (over,) = await house.said(AlertResolved)
    assert isinstance(over, AlertResolved)
    assert (over.alert_id, over.reason) == (alarm.alert_id, "credit-live was removed")
    await house.hear(over, source="/fairlead/governor")
    (alert,) = await house.rows("SELECT state, resolution FROM alert")
    assert alert == {"state": "resolved", "resolution": "credit-live was removed"}


async def test_a_drift_of_an_endpoint_that_is_not_known_yet_waits(house: House) -> None:
    with pytest.raises(NotYet):
        await house.hear(drift())


def completed(asked: RetrainingRequested, outcome: Any) -> RetrainingCompleted:
    return RetrainingCompleted(
        retraining_id=asked.retraining_id, model="credit", champion_version=1, endpoint="credit-live",
        use_case="lending", outcome=outcome, reason="measured", requested_by="service:governor",
    )  # fmt: skip


async def retraining(house: House) -> RetrainingRequested:
    (event,) = await house.said(RetrainingRequested)
    assert isinstance(event, RetrainingRequested)
    return event


def refused(asked: RetrainingRequested, reason: str) -> CandidateRefused:
    return CandidateRefused(
        model="credit", retraining_id=asked.retraining_id, package_digest="sha256:" + "d" * 64, reason=reason
    )


async def test_the_loop_closes_with_a_person_in_it(house: House) -> None:
    await house.in_business()
    await house.hear(drift())
    asked = await retraining(house)
    await house.hear(completed(asked, "candidate_won"))
    await house.hear(drift())  # between the candidate and its deployment
    candidate = model(version=2, digest="sha256:" + "d" * 64)
    await house.hear(candidate)
    request = deployment(
        version=2, digest=candidate.digest, requested_by="service:deployer", retraining_id=asked.retraining_id
    )
    await house.hear(request)
    await house.hear(drift())  # while a person thinks
    assert len(await house.said(RetrainingRequested)) == 1
    assert len(await house.said(ApprovalRequested)) == 2
    await house.promote(request, revision=2)
    outcomes = await house.rows("SELECT template, outcome FROM process ORDER BY started_at")
    assert [tuple(row.values()) for row in outcomes] == [
        ("standard", "in_business"), ("retraining", "candidate_proposed"), ("standard", "in_business"),
    ]  # fmt: skip
    (alert,) = await house.rows("SELECT state, resolution FROM alert")
    assert alert["state"] == "resolved"
    assert "version 2 took the place" in alert["resolution"]
    await house.hear(drift(version=2))
    assert len(await house.said(RetrainingRequested)) == 2


async def test_who_asked_for_the_retraining_cannot_approve_its_candidate(house: House) -> None:
    await house.in_business()
    admin = person("admin", "*")
    with use(Context(admin)):
        asked = await house.governor.retrainings.ask(admin, "credit-live", "monthly", None)
    await house.hear(completed(asked, "candidate_won"))
    await house.hear(model(version=2))
    request = deployment(version=2, requested_by="service:deployer", retraining_id=asked.retraining_id)
    await house.hear(request)
    approval = await house.approval_of(request)
    with use(Context(admin)), pytest.raises(Exception, match="admin asked for this"):
        await house.governor.approvals.decide(approval, admin, "grant", "mine")
    await house.promote(request, revision=2)


@pytest.mark.parametrize(("outcome", "state"), [("champion_kept", "resolved"), ("failed", "open")])
async def test_after_a_retraining_that_brought_nothing_the_next_drift_asks_again(
    house: House, outcome: str, state: str
) -> None:
    await house.in_business()
    await house.hear(drift())
    await house.hear(completed(await retraining(house), outcome))
    assert [row["state"] for row in await house.rows("SELECT state FROM alert")] == [state]
    await house.hear(drift())
    assert len(await house.said(RetrainingRequested)) == 2
    assert [row["state"] for row in await house.rows("SELECT state FROM alert")] == ["open"]


async def test_a_timer_ends_a_retraining_that_nobody_finishes(house: House, tmp_path: Path) -> None:
    await house.in_business()
    await house.hear(drift())
    with use(Context(person("nobody", "*"))):
        async with house.db.transaction() as tx:
            from sqlalchemy import text

            move = """UPDATE process SET due = now() - interval '1 s', workflow = replace(workflow::text,
                      to_char(due AT TIME ZONE 'utc', 'YYYY-MM-DD'), '2020-01-01')::jsonb WHERE state = 'running'"""
            await tx.session.execute(text(move))
    job = asyncio.create_task(house.governor.life_cycle.wake_due())
    try:
        async with asyncio.timeout(5):
            while not await house.rows("SELECT 1 FROM process WHERE outcome = 'gave_up'"):
                await asyncio.sleep(0.05)
    finally:
        job.cancel()


def raised(**changes: Any) -> AlertRaised:
    facts: dict[str, Any] = {
        "alert_id": uuid4(), "subject": "credit-live", "kind": "slow", "severity": "warning", "title": "Slow",
        "detail": "p99 80 ms", "todo": "Look",
    }  # fmt: skip
    return AlertRaised(**facts | changes)


async def test_an_alert_opens_counts_closes_and_opens_again(house: House) -> None:
    event = raised()
    await house.hear(event)
    await house.hear(event)
    over = AlertResolved(alert_id=event.alert_id, subject=event.subject, reason="fast again")
    await house.hear(over)
    (alert,) = await house.rows("SELECT state, times, resolution FROM alert")
    assert alert == {"state": "resolved", "times": 2, "resolution": "fast again"}
    await house.hear(event)
    (alert,) = await house.rows("SELECT state, times, owner, resolution, resolved_at FROM alert")
    assert alert == {"state": "open", "times": 3, "owner": None, "resolution": None, "resolved_at": None}


async def test_a_resolution_before_its_alert_waits(house: House) -> None:
    with pytest.raises(NotYet):
        await house.hear(AlertResolved(alert_id=uuid4(), subject="x", reason="over"))


def serving() -> ReplicaReported:
    return ReplicaReported(
        endpoint="credit-live", replica="one", revision=1, state="ready", loaded=(1,), slots=1, reported_at=NOW
    )


async def test_the_time_to_business_ends_when_a_replica_serves(house: House) -> None:
    await house.in_business()
    assert await house.rows("SELECT serving_at FROM model_version") == [{"serving_at": None}]
    await house.hear(serving())
    assert await house.rows("SELECT serving_at FROM model_version") == [{"serving_at": NOW}]
