"""The deployer's decisions, without a database."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import ReplicaReported
from services.deployer.domain import (
    Deployment,
    check_name,
    ended_by,
    readable,
    replaced_by,
    take_over,
    verdict,
)
from services.deployer.settings import DeployerSettings
from services.kit.errors import Conflict

from .conftest import NOW


def asked(order: int, **changes: object) -> Deployment:
    facts = Deployment(
        id=UUID(int=order), endpoint="credit", use_case="lending", unit="retail", model="credit", version=order,
        digest="sha256:" + "0" * 64, strategy="direct", streaming=False, requested_by="engineer",
        requested_at=NOW + timedelta(seconds=order), changed_at=NOW,
    )  # fmt: skip
    return replace(facts, **changes)


def test_a_rollout_ends_those_in_flight_and_leaves_what_serves() -> None:
    serving, flying = asked(1, state="serving"), asked(2, state="rolling_out")
    (left,) = take_over(asked(3), [serving, flying], NOW)
    assert (left.id, left.state, left.reason) == (flying.id, "replaced", "overtaken by version 3")
    assert [other.id for other in replaced_by(asked(3), [serving], NOW)] == [serving.id]


@pytest.mark.parametrize("state", ["rolling_out", "serving"])
def test_a_rollout_asked_for_earlier_does_not_overtake_one_asked_for_later(state: str) -> None:
    with pytest.raises(Conflict, match="asked for later"):
        take_over(asked(1), [asked(2, state=state)], NOW)


def test_rollouts_of_other_endpoints_and_what_is_over_do_not_matter() -> None:
    others = [asked(5, state="serving", endpoint="other"), asked(6, state="replaced"), asked(7, state="failed")]
    assert take_over(asked(1), others, NOW) == ()


def test_a_version_brought_back_ends_a_rollout_in_flight_whenever_it_was_asked_for() -> None:
    (left,) = ended_by(asked(1), [asked(2, state="rolling_out"), asked(1, state="serving")], "brought back", NOW)
    assert (left.version, left.state) == (2, "replaced")


@pytest.mark.parametrize(("state", "after"), [
    ("in_review", "revoked"), ("rolling_out", "revoked"), ("serving", "revoked"), ("replaced", "revoked"),
    ("rolled_back", "revoked"), ("removed", "revoked"), ("failed", "failed"), ("rejected", "rejected"),
])  # fmt: skip
def test_a_revoked_grant_ends_what_it_allowed_and_hides_no_earlier_failure(state: str, after: str) -> None:
    deployment = asked(1, state=state, reason="why").revoked("no more", NOW)
    assert (deployment.state, deployment.reason) == (after, "no more" if after == "revoked" else "why")


@given(st.permutations(range(1, 8)))
def test_in_whatever_order_grants_come_the_one_asked_for_last_is_there_alone(order: list[int]) -> None:
    placed: dict[UUID, Deployment] = {}
    for number in order:
        starting = asked(number)
        try:
            left = take_over(starting, placed.values(), NOW)
        except Conflict:
            continue
        placed |= {other.id: other for other in left} | {starting.id: replace(starting, state="rolling_out")}
    assert [d.version for d in placed.values() if d.state == "rolling_out"] == [7]


def test_a_name_belongs_to_the_unit_that_has_it() -> None:
    check_name("credit", "retail", None)
    check_name("credit", "retail", "retail")
    with pytest.raises(Conflict, match="taken"):
        check_name("credit", "retail", "wealth")


@pytest.mark.parametrize("principals", [
    {"retail": ["app"], "wealth": ["app"]}, {"retail": ["*"]}, {"retail": ["governor"]}, {"retail": ["operator"]},
])  # fmt: skip
def test_a_principal_is_an_application_of_one_unit(principals: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="principal"):
        DeployerSettings.model_validate({"stream_principals": principals})


def test_a_replica_may_say_anything_and_the_reason_can_be_kept() -> None:
    told = ReplicaReported(
        endpoint="credit", replica="one", revision=1, state="failed", reason="\x00" * 9000, slots=1, reported_at=NOW
    )
    found = verdict(1, [told], 1)
    assert found
    assert "\x00" not in (found[1] or "")
    assert len(readable("x" * 9000)) == 2000
