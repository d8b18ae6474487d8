"""Cohorts: a change of shares moves as few entities as it can, and no cohort is served twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import COHORTS, Cohorts
from services.deployer.domain.shares import resized, share_of
from services.kit.errors import Invalid

Ranges = tuple[Cohorts, ...]


def each(ranges: Ranges) -> set[int]:
    found = [cohort for one in ranges for cohort in range(one.first, one.last + 1)]
    assert len(found) == len(set(found))
    return set(found)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, COHORTS // 3 - 1)), max_size=12))
def test_a_change_of_shares_moves_only_as_many_cohorts_as_it_must(steps: list[tuple[str, int]]) -> None:
    shares: dict[str, Ranges] = {"a": (), "b": (), "c": ()}
    for name, count in steps:
        others = [cohorts for other, ranges in shares.items() if other != name for cohorts in ranges]
        before, after = each(shares[name]), each(new := resized(shares[name], others, count))
        assert len(after) == count
        assert before <= after or after <= before
        assert after.isdisjoint(each(tuple(others)))
        shares[name] = new


def test_a_share_that_is_taken_back_and_given_again_is_the_same_entities() -> None:
    some = resized((), (), 1000)
    assert resized(resized(some, (), 300), (), 1000) == some == (Cohorts(first=0, last=999),)


@pytest.mark.parametrize("weight", [0, 0.00004, 1, 1.5, -0.1, 0.12345])
def test_a_weight_that_is_no_share_of_cohorts_is_refused(weight: float) -> None:
    with pytest.raises(Invalid, match="weight") as refusal:
        share_of(weight)
    assert refusal.value.field == "weight"


def test_shares_never_leave_the_champion_without_any() -> None:
    half = resized((), (), COHORTS // 2)
    with pytest.raises(Invalid, match=r"less than 0\.5 is left"):
        resized((), half, COHORTS // 2)


@pytest.mark.parametrize(("weight", "count"), [(0.1, 1000), (0.0001, 1), (0.9999, 9999), (0.3, 3000), (1 / 8, 1250)])
def test_a_weight_is_so_many_cohorts(weight: float, count: int) -> None:
    assert share_of(weight) == count
