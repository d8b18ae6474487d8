"""Business rules: counts that merge, and one alert for each rule that is broken."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import (
    AlertRaised,
    AlertResolved,
    GivenSettings,
    InferenceLogged,
    ModelSchema,
    MonitorSettings,
    Rule,
    Service,
)
from services.kit.compacted import Change
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.errors import Invalid
from services.kit.objects import Objects
from services.monitor import store
from services.monitor.api.rules import RulesView
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.rules import EXAMPLES, Evidence, Keeping, Key, Rules, Tally
from services.monitor.domain.windows import Part, Sums
from services.monitor.settings import MonitorSettings as ServiceSettings
from services.monitor.store import rules as kept_rules
from services.monitor.usecases.closing import Closing
from services.monitor.usecases.desired import Desired
from services.monitor.usecases.rules import Telling
from services.monitor.usecases.versions import Versions

from . import streams
from .saying import alerts, deployment, fresh

ENGINEER = Context(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})))
LIMIT = Rule(must="a <= 3.0")
SCHEMA = streams.schema()

_evidence = st.builds(Evidence, st.integers(0, 9).map(float), st.sampled_from("abcdef"), st.just(0))
_tallies = st.builds(
    Tally.of, st.integers(0, 50), st.integers(0, 9), st.integers(0, 9), st.lists(_evidence, max_size=5)
)  # fmt: skip
_rules = st.dictionaries(st.builds(Key, st.sampled_from(["one", "two"]), st.sampled_from(["a > 1", "b"])), _tallies)


@given(st.lists(_rules.map(Rules), min_size=1, max_size=5), st.randoms())
def test_counts_of_rules_are_the_same_however_rows_are_split(parts: list[Rules], random: Any) -> None:
    def whole(some: list[Rules]) -> dict[Key, Tally]:
        made = Rules()
        for each in some:
            made = made.merge(each)
        return dict(made.by)

    first, other = whole(parts), list(parts)
    random.shuffle(other)
    assert whole(other) == first
    for tally in first.values():
        assert list(tally.first) == sorted(tally.first)[:EXAMPLES]
    assert Rules.from_json(Rules(first).to_json()).by == first == Rules.reported(Rules(first).reports()).by


def kept(rule: Rule, windows: list[tuple[int, int]], budget: int = 100_000) -> list[bool]:
    """Whether it is told after each window of so many rows, so many of which broke it."""
    state, told = Keeping(rule.must, rule.tolerance), list[bool]()
    for at, (rows, broken) in enumerate(windows):
        state = Keeping.from_json(state.to_json()).observe(Tally.of(rows, broken, 0, ()), 10.0 * at, budget)
        told.append(state.told)
    return told


def test_one_row_breaks_what_nothing_may_break_and_three_clean_windows_end_it() -> None:
    windows = [(100, 0), (100, 1), (100, 0), (100, 0), (0, 0), (100, 0), (100, 0)]
    assert kept(LIMIT, windows) == [False, True, True, True, True, False, False]
    assert kept(LIMIT, [(5, 1), (5, 0), (5, 0), (5, 1), (5, 0), (5, 0), (5, 0)])[-2:] == [True, False]


def test_a_share_that_may_break_it_is_told_on_evidence_alone() -> None:
    may = LIMIT.model_copy(update={"tolerance": 0.1})
    random = np.random.default_rng(1)
    quiet = kept(may, [(20, int(random.binomial(20, 0.1))) for _ in range(5_000)])
    assert sum(quiet) == 0, "at the very share that it may have, 100,000 rows"
    assert kept(may, [(5, 2)] * 60)[-1] and not any(kept(may, [(5, 1)]))


@pytest.mark.parametrize("tolerance", [5e-324, 1e-310, 1e-6, 0.999, 0.9999999999999999, 1.0])
def test_no_tolerance_is_an_error_or_an_alert_about_what_is_kept(tolerance: float) -> None:
    may = LIMIT.model_copy(update={"tolerance": tolerance})
    assert not any(kept(may, [(1_000, 0)] * 5))
    assert kept(may, [(1_000, 1_000)] * 3)[-1] is (tolerance < 0.999)


@pytest.mark.parametrize(("tolerance", "fits"), [(0, True), (1e-6, True), (0.999, True), (1e-310, False),
                                                 (0.9999999999999999, False), (1, False), (-0.1, False)])  # fmt: skip
def test_a_tolerance_is_none_or_a_share_that_can_be_told(tolerance: float, fits: bool) -> None:
    given = {"rules": {"limit": {"must": "a <= 3.0", "tolerance": tolerance}}}
    if fits:
        assert GivenSettings.model_validate(given).settings().rules["limit"].tolerance == tolerance
    else:
        with pytest.raises(ValueError, match=r"rules\.limit\.tolerance\s.*0 for none, or a share from 0.000001"):
            GivenSettings.model_validate(given)


def test_a_version_that_keeps_it_does_not_end_what_another_one_breaks() -> None:
    state, at = Keeping(LIMIT.must, 0.0), 0.0
    for _ in range(6):
        state = state.observe(Tally.of(90, 0, 0, ()), at, 1_000).observe(Tally.of(10, 1, 0, ()), at, 1_000)
        at += 10.0
    assert state.told and (state.seen.broken, state.since_s) == (6, 0.0)


def test_what_can_be_evaluated_for_no_row_is_told_after_three_windows() -> None:
    state, told = Keeping(LIMIT.must, 0.0), list[bool]()
    for at in range(4):
        state = state.observe(Tally.of(50, 0, 50, ()), 10.0 * at, 1_000)
        told.append(state.told)
    assert told == [False, False, True, True] and state.seen.decided == 0


def watched(*windows: Tally) -> list[Keeping]:
    states = [Keeping(LIMIT.must, 0.0)]
    for at, tally in enumerate(windows):
        states.append(Keeping.from_json(states[-1].to_json()).observe(tally, 10.0 * at, 1_000))
    return states[1:]


BLIND, UNSEEN, CLEAN, BROKEN = Tally(50, 0, 50), Tally(), Tally(50, 0, 0), Tally(50, 9, 0)


def test_a_rule_that_nobody_could_look_at_is_told_again_when_rows_break_it() -> None:
    *_, before, after = watched(BLIND, BLIND, BLIND, BROKEN)
    assert (before.why, after.why, after.is_news(before)) == ("blind", "broken", True)
    assert (after.seen.rows, after.seen.undecided, after.since_s) == (50, 0, 30.0), "not of the time before"
    assert not watched(BLIND, BLIND, BLIND, BROKEN, BROKEN)[-1].is_news(after)
    assert not watched(BLIND, BLIND, BLIND, BROKEN, BLIND, BLIND, BLIND)[-1].is_news(after)
    assert watched(BLIND, BLIND, BLIND, CLEAN, CLEAN, CLEAN)[-1].why == ""


def test_a_rule_of_which_no_row_was_looked_at_in_three_windows_is_told() -> None:
    assert [state.why for state in watched(UNSEEN, UNSEEN, UNSEEN, UNSEEN)] == ["", "", "unseen", "unseen"]
    assert not any(state.told for state in watched(UNSEEN, UNSEEN, CLEAN, UNSEEN, UNSEEN))
    assert [state.why for state in watched(*[UNSEEN] * 3, *[BLIND] * 3, BROKEN)][2:] == [
        "unseen", "unseen", "unseen", "blind", "broken"]  # fmt: skip
    assert watched(*[UNSEEN] * 3, *[CLEAN] * 3)[-1].why == ""


def test_what_was_stored_before_it_was_known_why_tells_what_it_counted() -> None:
    for last, why in ((BROKEN, "broken"), (BLIND, "blind"), (CLEAN, "")):
        data = watched(last, last, last)[-1].to_json()
        older = {name: value for name, value in data.items() if name not in ("why", "severity", "unseen")}
        assert Keeping.from_json(older | {"told": bool(why)}).why == why


class Story:
    """An endpoint whose windows are closed by the monitor's own round."""

    def __init__(self, db: Database, settings: ServiceSettings) -> None:
        versions = Versions(db, Objects(settings))
        self.db, self.endpoint = db, fresh()
        self.closing, self.desired = Closing(settings, db, versions), Desired(db, versions)
        self.start = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)
        self.revision = 0

    async def serve(self, schema: ModelSchema = SCHEMA, state: str = "serving", **rules: Rule) -> None:
        self.revision += 1
        event = deployment(self.endpoint, schema, None, revision=self.revision, state=state,
                           monitor=MonitorSettings(rules=rules))  # fmt: skip
        await self.desired.learn(Change(self.endpoint, event, None, 0))

    async def window(self, back: int = 0, **broken: int | Tally) -> None:
        start = self.start - timedelta(seconds=10 * back)
        at_s = start.timestamp()
        rules = Rules({
            Key(name, LIMIT.must): many if isinstance(many, Tally)
            else Tally.of(20, many, 0, [Evidence(at_s, f"{name}-{at_s}", 0)] if many else [])
            for name, many in broken.items()
        })  # fmt: skip
        key = store.WindowKey(self.endpoint, 1, "retail", start, start + timedelta(seconds=10))
        self.start = max(self.start, key.end)
        part = Part(25, 25, (), Sums.zero(0), LatencyCounts({}), rules=rules)
        async with self.db.transaction() as tx:
            await store.add_part(tx.session, key, 0, 0, part)
            await store.note_read_to_end(tx.session, range(InferenceLogged.topic.partitions), [], datetime.now(UTC))
        assert (await self.closing.close_due()).failed == {}

    async def said(self) -> list[AlertRaised | AlertResolved]:
        return [each for each in await alerts(self.db) if each.subject == self.endpoint]


@pytest.fixture
async def story(service_db: Callable[[Service], Database], monitor_settings: ServiceSettings) -> Story:
    return Story(service_db("monitor"), monitor_settings)


async def test_each_rule_that_is_broken_has_an_alert_that_ends_by_itself(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.serve(limit=LIMIT, other=LIMIT.model_copy(update={"severity": "critical"}))
        await story.window(limit=0, other=0)
        await story.window(limit=3, other=0)
        await story.window(limit=2, other=1)
        one, other = await story.said()
        assert isinstance(one, AlertRaised) and isinstance(other, AlertRaised)
        assert (one.kind, one.severity, other.kind, other.severity) == (
            "business-rule.limit", "warning", "business-rule.other", "critical")  # fmt: skip
        assert one.alert_id != other.alert_id and one.since == story.start - timedelta(seconds=20)
        assert one.since and one.how_much == "3 of 20 rows broke it, 0 of them may"
        assert "a <= 3.0" in one.detail and f"decision limit-{one.since.timestamp()}, row 0" in one.detail
        for _ in range(3):
            await story.window(limit=0, other=4)
        over = (await story.said())[2:]
        assert [each.alert_id for each in over] == [one.alert_id], "the other one is broken still"
    with use(ENGINEER):
        told = RulesView.of(await Telling(story.db).told(story.endpoint, 60))
    limit, other_ = told.rules
    assert (told.windows, told.rows, limit.rows, limit.broken, limit.not_looked_at) == (6, 150, 120, 5, 30)
    assert not limit.alarmed and other_.alarmed and (other_.broken_since, other_.rows_since) == (13, 80)
    assert limit.share == pytest.approx(5 / 120) and limit.examples[0].row == 0


async def test_an_alert_of_a_rule_is_raised_again_when_what_it_tells_becomes_worse(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.serve(limit=LIMIT)
        for tally in (*[UNSEEN] * 3, *[BLIND] * 3, BROKEN, BROKEN):
            await story.window(limit=tally)
        said = [each for each in await story.said() if isinstance(each, AlertRaised)]
        assert len({each.alert_id for each in said}) == 1
        for each, words in zip(said, ("There is no time", "cannot be evaluated", "break the"), strict=True):
            assert words in each.title
        assert [each.how_much for each in said] == [
            "none of the rows of 3 windows in a row was looked at", "none of 150 rows has all that it asks for",
            "9 of 50 rows broke it, 0 of them may"]  # fmt: skip
        await story.serve(limit=LIMIT.model_copy(update={"severity": "critical"}))
        await story.window(limit=0)
        await story.window(limit=0)
        *_, last = await story.said()
        assert isinstance(last, AlertRaised) and len(await story.said()) == 4
        assert (last.alert_id, last.severity, last.how_much) == (
            said[0].alert_id, "critical", "18 of 120 rows broke it, 0 of them may")  # fmt: skip


async def test_what_is_told_of_rules_is_what_the_newest_windows_reported(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.serve(limit=LIMIT, other=LIMIT)
        await story.window(other=1)
        for many in (0, 3, 2, 1, 4):
            await story.window(limit=many)
        await story.window(back=3, limit=2)
        asked = {Key("limit", LIMIT.must), Key("never", LIMIT.must)}
        for windows in (1, 2, 3, 4, 60):
            async with story.db.reading() as session:
                reports = await store.reports(session, story.endpoint, None, windows)
                span, counted = await kept_rules.kept(session, story.endpoint, windows, asked)
            whole = Rules()
            for report in reports:
                whole = whole.merge(Rules.reported(report.rules))
            assert counted.by == {key: tally for key, tally in whole.by.items() if key in asked}
            assert (span.windows, span.rows) == (len(reports), sum(each.window.rows for each in reports))
            assert span.start == min(each.window.start for each in reports) and span.end == story.start
        async with story.db.reading() as session:
            assert await kept_rules.kept(session, fresh(), 60, asked) == (kept_rules.Span(0, 0, None, None), Rules())


async def test_rows_that_come_late_are_counted_once_and_may_break_a_rule(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.serve(limit=LIMIT)
        await story.window(limit=0)
        await story.window(limit=0)
        await story.window(back=1, limit=2)
        (raised,) = await story.said()
        assert isinstance(raised, AlertRaised) and raised.since == story.start - timedelta(seconds=10)
        async with story.db.reading() as session:
            revised, first = await store.reports(session, story.endpoint, None, 10)
        (rule,) = revised.rules
        assert (revised.revision, revised.window.rows, rule.rows, rule.broken) == (1, 50, 40, 2)
        assert first.rules[0].broken == 0


async def test_a_rule_that_is_changed_or_taken_away_ends_its_alert(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.serve(limit=LIMIT, other=LIMIT, third=LIMIT)
        await story.window(limit=1, other=1, third=1)
    with use(ENGINEER):
        changed = {"limit": Rule(must="a <= 4.0").model_dump(), "third": LIMIT.model_dump()}
        await story.desired.configure(story.endpoint, {"rules": changed})
    with use(Context(system("monitor"))):
        over = {type(each).__name__: each for each in (await story.said())[3:]}
        reasons = sorted(each.reason for each in (await story.said())[3:] if isinstance(each, AlertResolved))
        assert reasons == ["it was changed", "there is no such rule any more"] and len(over) == 1
        await story.serve(state="removed", limit=LIMIT)
        last = (await story.said())[-1]
        assert isinstance(last, AlertResolved) and last.reason == "the endpoint is removed"


async def test_a_rule_that_cannot_be_evaluated_is_refused_by_its_name(story: Story) -> None:
    with use(Context(system("monitor"))):
        await story.serve()
    with use(ENGINEER):
        with pytest.raises(Invalid, match=r"rules\.limit\.must: .*undeclared reference to 'limt'") as refused:
            await story.desired.configure(story.endpoint, {"rules": {"limit": {"must": "limt > 1.0"}}}, keep=False)
        assert refused.value.field == "rules.limit.must"
        held = await story.desired.configure(story.endpoint, {"rules": {"limit": {"must": "a > 1.0"}}})
    assert held.settings.rules == {"limit": Rule(must="a > 1.0")} and held.sources["rules"] == "set"
