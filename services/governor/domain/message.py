"""What people are told of alerts: what changed, since when, how much, what it costs, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from .routing import Kind

Status = Literal["firing", "resolved"]


@dataclass(frozen=True)
class Told:
    """One alert in a message, as it stands when the message is written."""

    alert_id: UUID
    episode: int
    unit: str
    subject: str
    kind: str
    severity: str
    title: str
    detail: str
    todo: str
    times: int
    raised_at: datetime
    use_case: str | None
    """Of an endpoint; None for any other subject."""
    step: int = 0
    """The step of the route that it reached; from 1 on nobody took it in time."""
    owner: str | None = None
    resolved_at: datetime | None = None
    resolution: str | None = None
    since: datetime | None = None
    how_much: str | None = None
    segment: str | None = None
    cost: str | None = None

    @property
    def began(self) -> datetime:
        """When what it tells of began, as far as that is known."""
        return self.since or self.raised_at

    @property
    def status(self) -> Status:
        return "resolved" if self.resolved_at else "firing"

    def link(self, console: str) -> str:
        """The page of the console that shows it."""
        return f"{console}/endpoints/{self.subject}" if self.use_case else f"{console}/alerts"


def title(alerts: Sequence[Told]) -> str:
    """One line: how bad, about what, and what changed."""
    worst = min(alerts, key=lambda alert: (alert.status != "firing", _RANK.get(alert.severity, 0)))
    mark = "resolved" if worst.status == "resolved" else ("still open, " if worst.step else "") + worst.severity
    more = f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else ""
    return " ".join(f"[{mark}] {worst.subject}: {worst.title}{more}".split())


_RANK = {"critical": -3, "warning": -2, "info": -1}


def text(alerts: Sequence[Told], console: str) -> str:
    """All of it for people, as plain text."""
    return "\n\n".join(_told(alert, console) for alert in alerts) + "\n"


def _told(alert: Told, console: str) -> str:
    lines = [
        ("What changed", alert.title),
        ("Since", _since(alert)),
        ("How much", alert.how_much or alert.detail),
        ("Segment", alert.segment or ""),
        ("Costs", alert.cost or ""),
        ("More", "" if (alert.how_much or "") in alert.detail else alert.detail),
        ("Raised", f"{alert.times} times" if alert.times > 1 else ""),
        ("Nobody took it", f"step {alert.step + 1} of its route" if alert.step and not alert.resolved_at else ""),
        ("Taken by", alert.owner or ""),
        ("Over", f"{_moment(alert.resolved_at)}: {alert.resolution}" if alert.resolved_at else ""),
        ("What to do", "" if alert.resolved_at else alert.todo),
        ("Look here", alert.link(console)),
    ]
    head = f"{alert.subject} ({alert.kind}, {alert.severity}, {alert.status})"
    return "\n".join([head, *(f"{name}: {said}" for name, said in lines if said)])


def _since(alert: Told) -> str:
    seen = f", seen {_moment(alert.raised_at)}" if alert.began < alert.raised_at else ""
    return f"{_moment(alert.began)}{seen}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def trial(route: str, unit: str, actor: str, at: datetime) -> Told:
    """What tells nothing but that a route leads here. It is over, so that no receiver waits for its end."""
    return Told(
        alert_id=UUID(int=0), episode=0, unit=unit, subject=route, kind="test", severity="info",
        title="This is a test", detail=f"{actor} looks whether the route {route} leads here", todo="Nothing",
        times=1, raised_at=at, use_case=None, resolved_at=at, resolution="it was a test",
    )  # fmt: skip


def body(kind: Kind, id: UUID, alerts: Sequence[Told], console: str, at: datetime) -> bytes:
    """What goes out by a kind of channel, as it is kept from its first attempt to its last."""
    match kind:
        case "webhook":
            return webhook(id, alerts, console, at)
        case "alertmanager":
            return alertmanager(alerts, console)
        case "email":
            return orjson.dumps({"subject": title(alerts), "text": text(alerts, console)})


def webhook(id: UUID, alerts: Sequence[Told], console: str, at: datetime) -> bytes:
    """The body of a webhook, `docs/alerts.md`."""
    first = alerts[0]
    status = "firing" if any(alert.status == "firing" for alert in alerts) else "resolved"
    return orjson.dumps({
        "type": "alerts.told",
        "id": str(id),
        "timestamp": at,
        "status": status,
        "unit": first.unit,
        "subject": first.subject,
        "title": title(alerts),
        "text": text(alerts, console),
        "alerts": [_as_json(alert, console) for alert in alerts],
    })  # fmt: skip


def _as_json(alert: Told, console: str) -> dict[str, Any]:
    return {
        "alert_id": str(alert.alert_id),
        "episode": alert.episode,
        "status": alert.status,
        "step": alert.step,
        "unit": alert.unit,
        "subject": alert.subject,
        "use_case": alert.use_case,
        "kind": alert.kind,
        "severity": alert.severity,
        "what_changed": alert.title,
        "since": alert.began,
        "seen": alert.raised_at,
        "how_much": alert.how_much or alert.detail,
        "segment": alert.segment,
        "cost": alert.cost,
        "detail": alert.detail,
        "what_to_do": alert.todo,
        "link": alert.link(console),
        "times": alert.times,
        "owner": alert.owner,
        "resolved_at": alert.resolved_at,
        "resolution": alert.resolution,
    }


def alertmanager(alerts: Sequence[Told], console: str) -> bytes:
    """The body of Alertmanager's `POST /api/v2/alerts`.

    What fires has no end: Alertmanager sets one by its `resolve_timeout`, from when it heard of it last.
    """
    return orjson.dumps([_posted(alert, console) for alert in alerts])


def _posted(alert: Told, console: str) -> dict[str, Any]:
    labels = {
        "alertname": alert.kind, "severity": alert.severity, "subject": alert.subject, "unit": alert.unit,
        "platform": "fairlead",
    }  # fmt: skip
    if alert.use_case:
        labels |= {"endpoint": alert.subject, "use_case": alert.use_case}
    ends = {"endsAt": alert.resolved_at} if alert.resolved_at else {}
    return {
        "labels": labels,
        "annotations": {
            "summary": alert.title, "description": _told(alert, console), "since": _since(alert),
            "how_much": alert.how_much or alert.detail, "what_to_do": alert.todo,
            **{name: said for name, said in (("segment", alert.segment), ("cost", alert.cost)) if said},
        },
        "startsAt": alert.raised_at, **ends,
        "generatorURL": alert.link(console),
    }  # fmt: skip
