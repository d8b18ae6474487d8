"""Approvals, retrainings and the chain: what is decided, without any part running."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.governor.domain import chain, retraining
from services.governor.domain.approval import AlreadyDecided, Decider, SelfApproval, failures
from services.governor.domain.retraining import Live, UnderWay
from services.kit.errors import Conflict, Forbidden, Invalid
from tests.governor.builders import NOW, approval, some_id

DAY = timedelta(days=1)
COMPLIANCE = Decider("compliance", is_person=True)
LIVE = Live("credit-live", "retail", "lending", "credit", 1, retrainable=True)


def test_a_grant_states_what_may_serve_where_under_which_policy_and_until_when() -> None:
    asked = approval()
    decided = asked.granted(COMPLIANCE, "looks right", NOW)
    statement = decided.statement(DAY)
    assert decided.state == "granted"
    assert decided.decided_by == "compliance"
    assert statement.digest == asked.digest
    assert statement.evidence_digest == asked.evidence_digest
    assert statement.policy_version == "policies-1"
    assert statement.expires_at == NOW + DAY
    assert (statement.requested_by, statement.granted_by) == ("engineer", "compliance")


def test_the_requester_cannot_grant_their_own_approval() -> None:
    with pytest.raises(SelfApproval, match="engineer asked for this"):
        approval().granted(Decider("engineer", is_person=True), "mine", NOW)


def test_who_asked_for_a_retraining_cannot_grant_what_the_template_then_asks() -> None:
    asked = approval(requested_by="service:deployer", also_asked_by=("compliance",))
    with pytest.raises(SelfApproval):
        asked.granted(COMPLIANCE, "mine", NOW)


def test_no_service_and_no_application_decides() -> None:
    for decide in (lambda by: approval().granted(by, "x", NOW), lambda by: approval().rejected(by, "x", NOW)):
        with pytest.raises(Forbidden, match="a person has to decide"):
            decide(Decider("service:deployer", is_person=False))


@pytest.mark.parametrize("reason", ["", "   ", "x" * 2001])
def test_a_decision_says_why_in_a_length_that_can_be_kept(reason: str) -> None:
    with pytest.raises(Invalid) as refusal:
        approval().granted(COMPLIANCE, reason, NOW)
    assert refusal.value.field == "reason"


def test_there_is_one_decision() -> None:
    decided = approval().rejected(COMPLIANCE, "no", NOW)
    with pytest.raises(AlreadyDecided, match="rejected by compliance already"):
        decided.granted(Decider("admin", is_person=True), "yes", NOW)
    with pytest.raises(AlreadyDecided):
        decided.refused("service:governor", "retired", NOW)


def test_there_is_nothing_to_sign_before_a_grant() -> None:
    with pytest.raises(Conflict):
        approval().statement(DAY)


def test_only_a_grant_can_be_revoked() -> None:
    with pytest.raises(Conflict, match="this one is pending"):
        approval().revoked(COMPLIANCE, "why not", NOW)
    decided = approval().granted(COMPLIANCE, "yes", NOW)
    assert decided.revoked(COMPLIANCE, "found a flaw", NOW).state == "revoked"


def test_failed_gates_are_told_with_their_demand() -> None:
    from contracts import Gate

    gates = (
        Gate(name="scan", passed=False, rule="…", facts={"says": "The scan is clean."}),
        Gate(name="schema", passed=True, rule="…", facts={}),
    )
    assert failures(gates) == "scan: The scan is clean."


def test_a_person_cannot_ask_for_a_second_retraining_of_an_endpoint() -> None:
    busy = UnderWay(some_id(7), "a retraining")
    with pytest.raises(Conflict, match="under way"):
        retraining.asked_by_person(LIVE, busy, some_id(1), "engineer", None)
    asked = retraining.asked_by_person(LIVE, None, some_id(1), "engineer", None)
    assert (asked.cause, asked.requested_by, asked.version) == ("person", "engineer", 1)


def test_a_model_without_a_recipe_is_not_retrained() -> None:
    bare = Live("credit-live", "retail", "lending", "credit", 1, retrainable=False)
    assert "no recipe" in str(retraining.why_not(bare, None))


@given(st.sets(st.integers(1, 60)), st.integers(0, 30))
def test_rows_are_appended_in_number_order_and_never_over_a_gap(numbers: set[int], last: int) -> None:
    ready, waiting = chain.in_order(last, dict.fromkeys(numbers, b""))
    assert ready == list(range(last + 1, last + 1 + len(ready)))
    assert set(ready) | set(waiting) == {number for number in numbers if number > last}
    assert last + len(ready) + 1 not in numbers


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(0, 20))
def test_appending_in_two_batches_makes_the_same_chain_as_in_one(contents: list[bytes], cut: int) -> None:
    whole = chain.extend(0, chain.GENESIS, contents)
    first = chain.extend(0, chain.GENESIS, contents[:cut])
    at = (first[-1].position, first[-1].hash) if first else (0, chain.GENESIS)
    assert first + chain.extend(*at, contents[cut:]) == whole


@pytest.mark.parametrize(("template", "outcome", "free"), [
    ("retraining", "candidate_proposed", False), ("retraining", "failed", True), ("retraining", "gave_up", True),
    ("retraining", "candidate_lost", True), ("standard", "in_business", False), ("standard", "rejected", True),
    ("retraining", "candidate_refused", True),
    ("standard", "expired", True), ("standard", "failed", True), ("standard", "withdrawn", True),
])  # fmt: skip
def test_an_alarm_is_free_again_when_its_retraining_brought_nothing(template: str, outcome: str, free: bool) -> None:
    assert retraining.brought_nothing(template, outcome) is free


def test_a_drift_is_over_with_the_version_or_the_endpoint_it_is_about() -> None:
    assert retraining.drift_is_over(LIVE, LIVE) is None
    assert "removed" in (retraining.drift_is_over(LIVE, None) or "")
    assert "version 2" in (retraining.drift_is_over(LIVE, replace(LIVE, version=2)) or "")


def test_a_verification_says_what_it_proves() -> None:
    assert "none is under a checkpoint" in chain.conclusion(3, 0)
    assert chain.conclusion(3, 3) == "records 1 to 3 are as they were sealed"
    assert "the 1 after them" in chain.conclusion(3, 2)
