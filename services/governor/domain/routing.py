"""Who is told of which alerts: routes, their steps and channels."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from services.kit.errors import Invalid

EVERY_UNIT = "*"
Kind = Literal["webhook", "alertmanager", "email"]
Severity = Literal["info", "warning", "critical"]
"""The worst one last."""


class _Said(BaseModel):
    """A part of a route as it is kept. A member that this version does not know may narrow what is meant: it is not
    passed over."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Channel(_Said):
    """One way out: a connection, and where behind it."""

    kind: Literal[Kind, "unreadable"]
    """`unreadable`: it was kept by a version that knew more; it leads nowhere."""
    connection: str
    path: str = ""
    """Below the connection's URL; of mail none."""
    to: tuple[str, ...] = ()
    """Of mail: who gets it."""

    def key(self, unit: str) -> str:
        """The same for the same receiver, called for the same unit: it is told once, whatever routes lead to it."""
        said = orjson.dumps([unit, self.model_dump(mode="json")], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(said).hexdigest()[:32]

    @property
    def label(self) -> str:
        """For people: `webhook ops/alerts`, `email mail to ops@bank.example`."""
        to = f" to {', '.join(self.to)}" if self.to else ""
        return f"{self.kind} {self.connection}{self.path}{to}"


def channel_of(kept: Any) -> Channel:
    """A channel as it is kept; one that this version cannot read fails alone."""
    try:
        return Channel.model_validate(kept)
    except ValidationError:
        said = kept if isinstance(kept, dict) else {}
        connection = str(said.get("connection", ""))[:63]
        return Channel(kind="unreadable", connection=connection)


class Step(_Said):
    """Who is told together, and when."""

    channels: tuple[Channel, ...]
    after_s: float = 0
    """After the alert was raised, or the step before was told; a later step is for what nobody took until then."""


class Match(_Said):
    """Which alerts; an empty list lets all of them through."""

    endpoints: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ()
    use_cases: tuple[str, ...] = ()


class Route(_Said):
    """Which alerts go to whom. One of the unit `*` is for the alerts of every unit."""

    name: str
    unit: str
    match: Match = Match()
    steps: tuple[Step, ...]
    group_s: float
    """Alerts about one subject within so much time are one message."""

    def due_after(self, step: int) -> timedelta | None:
        """How long after the step before it a step is due; None behind the last one."""
        return timedelta(seconds=self.steps[step].after_s) if step < len(self.steps) else None


def check(route: Route) -> None:
    """Raises Invalid naming a member: mail that goes to nobody, a later step that leaves nobody time to act."""
    for number, step in enumerate(route.steps):
        for place, channel in enumerate(step.channels):
            _check(channel, f"steps.{number}.channels.{place}")
    for number, step in enumerate(route.steps[1:], 1):
        if step.after_s <= 0:
            field = f"steps.{number}.after_s"
            raise Invalid(f"{field}: a later step needs a time, beyond 0, in which somebody can act", field)


def _check(channel: Channel, field: str) -> None:
    if channel.kind == "email" and not channel.to:
        raise Invalid(f"{field}.to: an e-mail needs somebody to go to", f"{field}.to")
    if channel.kind == "email" and channel.path:
        raise Invalid(f"{field}.path: an e-mail has none", f"{field}.path")
    if channel.kind != "email" and channel.to:
        raise Invalid(f"{field}.to: only an e-mail has recipients", f"{field}.to")


@dataclass(frozen=True)
class Case:
    """What a route or a silence looks at of an alert."""

    unit: str
    subject: str
    kind: str
    severity: str
    use_case: str | None
    """Of an endpoint; None for any other subject."""

    def is_of(self, kind: str) -> bool:
        """Whether it is of this kind, or of a part of it: `business-rule.limit` is one of `business-rule`."""
        return self.kind == kind or self.kind.startswith(f"{kind}.")


def wants(route: Route, case: Case) -> bool:
    """Whether this route is for this alert."""
    match = route.match
    return (
        route.unit in (EVERY_UNIT, case.unit)
        and (not match.endpoints or case.subject in match.endpoints)
        and (not match.kinds or any(map(case.is_of, match.kinds)))
        and (not match.severities or case.severity in match.severities)
        and (not match.use_cases or case.use_case in match.use_cases)
    )


@dataclass(frozen=True)
class Standing:
    """How an episode of an alert stands when a step of its course is due."""

    is_current: bool
    """It was not raised again since: a later episode has courses of its own."""
    state: str
    quiet_until: datetime | None = None
    """The end of the silence that holds now."""
    was_quiet: bool = False
    """A silence held when this step was due before."""
    worse: bool = False
    """It became more severe in this episode, after somebody was told of it."""


Due = Literal["tell", "wait", "over"]


def what_is_due(standing: Standing, step: int) -> Due:
    """What to do about a step whose time has come.

    What was raised and ended before anybody heard of it is told all the same, unless it was silenced: those who look
    into it later would not know. What somebody took, or is over, goes no further; but that it became worse is told once
    to those of the first step, whoever took it.
    """
    is_over = not standing.is_current or (standing.state == "acknowledged" and not (standing.worse and step == 0))
    if standing.state == "resolved":
        is_over = is_over or step > 0 or bool(standing.quiet_until) or standing.was_quiet or standing.worse
    if is_over:
        return "over"
    return "wait" if standing.quiet_until else "tell"
