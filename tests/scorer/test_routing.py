"""Who answers: the same everywhere for one entity, in the shares that were asked for, and better arms more often."""

import random
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from contracts import COHORTS, Cohorts, Grant, Routing, Signature, Statement, Variant
from services.scorer.routing import Arms, Cohort, Shares

from .making import NUMBERS

AT = datetime(2026, 3, 2, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64
GRANT = Grant(
    statement=Statement.model_construct(), signature=Signature(key_id="", value="")
)  # a router asks for no grant
KEYS = [f"customer-{n}" for n in range(20_000)]


def variant(version: int, *cohorts: tuple[int, int]) -> Variant:
    return Variant(
        name="champion" if version == 1 else f"version-{version}", model="credit", version=version, digest=DIGEST,
        format="onnx", model_schema=NUMBERS, baseline_digest=None, grant=GRANT,
        cohorts=tuple(Cohorts(first=first, last=last) for first, last in cohorts),
    )  # fmt: skip


def shares(strategy: str, *cohorts: tuple[int, int], salt: str = "one") -> Shares:
    routing = Routing.model_validate({"strategy": strategy, "salt": salt, "since": AT})
    return Shares(routing, [variant(1), *(variant(n, one) for n, one in enumerate(cohorts, 2))])


def test_an_entity_gets_its_version_whoever_asks_and_whatever_the_story() -> None:
    router = shares("ab", (0, 4999))
    for key in KEYS[:500]:
        told = {router.version(key, story, app) for story in (None, "s-1") for app in ("till", "web")}
        assert len(told) == 1


def test_another_process_says_the_same_of_an_entity() -> None:
    ask = f"from services.scorer.routing import Cohort\nprint([Cohort('one').of(k) for k in {KEYS[:20]!r}])"
    hashed = subprocess.run(
        [sys.executable, "-c", ask], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True, timeout=60
    )
    assert hashed.stdout.strip() == str([Cohort("one").of(key) for key in KEYS[:20]])


def test_entities_fall_into_versions_as_the_weights_say() -> None:
    found = Counter(shares("ab", (0, 999), (1000, 3999)).version(key, None, "till") for key in KEYS)
    assert [round(found[version] / len(KEYS), 2) for version in (1, 2, 3)] == [0.6, 0.1, 0.3]


def test_another_experiment_has_other_cohorts() -> None:
    one, other = shares("ab", (0, 4999)), shares("ab", (0, 4999), salt="other")
    alike = sum(one.version(key, None, "till") == other.version(key, None, "till") for key in KEYS)
    assert abs(alike / len(KEYS) - 0.5) < 0.02


def test_more_weight_moves_entities_only_towards_the_version_that_gets_it() -> None:
    before, after = shares("canary", (0, 999), (1000, 1999)), shares("canary", (0, 999), (1000, 2999))
    moved = {(b, a) for key in KEYS if (b := before.version(key, None, "x")) != (a := after.version(key, None, "x"))}
    assert moved == {(1, 3)}


def test_a_canary_takes_its_share_of_the_requests_of_one_application() -> None:
    random.seed(1)
    found = Counter(shares("canary", (0, 999)).version(None, None, "till") for _ in range(20_000))
    assert abs(found[2] / 20_000 - 0.1) < 0.01


def test_without_an_entity_a_b_goes_by_the_callers_key() -> None:
    router = shares("ab", (0, 4999))
    assert {router.version(None, None, "till") for _ in range(50)} == {router.version("till", None, "web")}
    assert {router.version(None, "story-9", app) for app in ("till", "web")} == {router.version("story-9", None, "x")}


@given(st.integers(0, COHORTS - 1), st.lists(st.integers(0, COHORTS - 1), min_size=2, max_size=8, unique=True))
def test_a_cohort_is_its_versions_or_the_champions(cohort: int, bounds: list[int]) -> None:
    ordered = sorted(bounds)
    ranges = list(zip(ordered[::2], ordered[1::2], strict=False))
    told = shares("ab", *ranges).at(cohort)
    inside = [n for n, (first, last) in enumerate(ranges, 2) if first <= cohort <= last]
    assert told == (inside[0] if inside else 1)


def arms(*counts: tuple[float, float], seed: int = 1) -> Arms:
    routing = Routing(strategy="bandit", salt="one", since=AT)
    made = Arms(routing, [variant(n) for n in range(1, len(counts) + 1)], random.Random(seed).betavariate)
    made.learn(dict(enumerate(counts, 1)))
    return made


def test_a_bandit_that_knows_nothing_tries_all_alike() -> None:
    router = arms((0, 0), (0, 0))
    found = Counter(router.version(None, None, "x") for _ in range(4000))
    assert abs(found[1] / 4000 - 0.5) < 0.05


def test_a_bandit_prefers_what_did_better_and_goes_on_trying_the_others() -> None:
    router = arms((30, 100), (50, 100), (0, 2))
    found = Counter(router.version(None, None, "x") for _ in range(4000))
    assert found[2] > found[3] > found[1] > 0


def test_a_bandit_finds_the_better_arm_by_what_follows() -> None:
    chance, rates, counts = random.Random(3), {1: 0.3, 2: 0.6}, {1: (0.0, 0.0), 2: (0.0, 0.0)}
    router, chosen = arms((0, 0), (0, 0)), list[int]()
    for _ in range(2000):
        chosen.append(version := router.version(None, None, "x"))
        rewards, outcomes = counts[version]
        counts[version] = (rewards + (chance.random() < rates[version]), outcomes + 1)
        router.learn(counts)
    assert chosen[-500:].count(2) > 450
