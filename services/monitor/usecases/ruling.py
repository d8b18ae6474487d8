"""Watches whether decisions keep the business rules of their endpoint, and says which is broken."""

from collections.abc import Mapping
from dataclasses import replace

from contracts import Rule
from services.kit.alerts import raise_alert, resolve_alert
from services.kit.db import Tx
from services.kit.errors import NotFound

from .. import metrics, store
from ..domain.rules import Keeping, Key, Rules, Tally
from ..domain.windows import moment
from ..store import Endpoint, WindowKey, rules

KIND = "business-rule"
_NO_RULES: Mapping[str, Rule] = {}
_TODO = (
    "Look the decision up (GET /v1/decisions/ID). Where it is wrong, go back to the version before, or take the model "
    "away; where it is right so, mend the rule, or say which share may break it."
)
_TODO_BLIND = (
    "Look whether the columns that the rule asks for still come, and are of the kind that it takes; mend the rule."
)
_TODO_UNSEEN = (
    "Write the rule with what is evaluated for whole columns (comparisons, logic, `in`, arithmetic), or take "
    "rules away: all rules of an endpoint share the time that there is for them."
)


def kind_of(rule: str) -> str:
    """What the alert of a rule is called: each has its own, and a route or a silence of `business-rule` is for all."""
    return f"{KIND}.{rule}"


async def observe(tx: Tx, key: WindowKey, counted: Rules) -> None:
    """Show what was counted of a window, or of rows that came after it was closed, of whichever version."""
    if not counted.by:
        return
    try:
        endpoint = await store.endpoint(tx.session, key.endpoint)
    except NotFound:
        return
    known = await rules.watches(tx.session, key.endpoint)
    for name, rule in endpoint.settings.rules.items():
        if tally := counted.by.get(Key(name, rule.must)):
            before = known.get(name)
            if before is None or not before.is_of(rule):
                before = Keeping(rule.must, rule.tolerance)
            after = before.observe(tally, key.start.timestamp(), endpoint.settings.budget_rows)
            after = replace(after, severity=rule.severity)
            if after != before:
                await rules.save(tx.session, endpoint, name, after)
            _tell(tx, endpoint, name, before, after)


def _tell(tx: Tx, endpoint: Endpoint, name: str, before: Keeping, after: Keeping) -> None:
    if after.is_news(before):
        _say(tx, endpoint, name, after)
    elif before.told and not after.told:
        resolve_alert(tx, kind_of(name), endpoint.endpoint, "the last three windows kept it", unit=endpoint.unit)


def _say(tx: Tx, endpoint: Endpoint, name: str, found: Keeping) -> None:
    rule, since = endpoint.settings.rules[name], moment(found.since_s)
    title, much, todo = _words(endpoint, name, rule, found)
    detail = f"{rule.must}: {much}, since {since:%Y-%m-%d %H:%M:%S} UTC{_first(found.seen)}"
    raise_alert(
        tx, kind_of(name), endpoint.endpoint, rule.severity, title, detail, todo,
        unit=endpoint.unit, since=since, how_much=much,
    )  # fmt: skip
    tx.then.append(metrics.FOUND.labels(endpoint.endpoint, KIND).inc)


def _words(endpoint: Endpoint, name: str, rule: Rule, found: Keeping) -> tuple[str, str, str]:
    """Title, how much, and what can be done."""
    seen, model = found.seen, endpoint.model
    if found.why == "unseen":
        much = f"none of the rows of {found.unseen} windows in a row was looked at"
        return f"There is no time for the business rule {name} of {model}", much, _TODO_UNSEEN
    if found.why == "blind":
        much = f"none of {seen.rows:,} rows has all that it asks for"
        return f"The business rule {name} cannot be evaluated for decisions of {model}", much, _TODO_BLIND
    much = f"{seen.broken:,} of {seen.decided:,} rows broke it, {rule.tolerance:.3g} of them may"
    if seen.undecided:
        much += f"; {seen.undecided:,} more could not be evaluated"
    return f"Decisions of {model} break the business rule {name}", much, _TODO


def _first(seen: Tally) -> str:
    return "".join(f"; the first: decision {each.inference_id}, row {each.row}" for each in seen.first[:1])


async def settle(
    tx: Tx, name: str, unit: str, now: Mapping[str, Rule] = _NO_RULES, why: str = "it was changed"
) -> None:
    """After rules were changed: what is watched of those that are not as they were is watched anew, and an open alert
    about one is over."""
    for rule, state in (await rules.watches(tx.session, name)).items():
        if rule in now and state.is_of(now[rule]):
            continue
        await rules.drop(tx.session, name, rule)
        if state.told:
            reason = why if rule in now or not now else "there is no such rule any more"
            resolve_alert(tx, kind_of(rule), name, reason, unit=unit)


def count(endpoint: str, counted: Rules) -> None:
    """For Prometheus."""
    for key, tally in counted.by.items():
        told = {"broken": tally.broken, "undecided": tally.undecided, "kept": tally.decided - tally.broken}
        for result, rows in told.items():
            metrics.RULES.labels(endpoint, key.name, result).inc(rows)
