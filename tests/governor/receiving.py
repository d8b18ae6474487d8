"""What tests of messages about alerts share: connections, alerts, a route, and the messenger at work."""

from typing import Any

import yaml

from contracts import AlertRaised, AlertResolved
from services.governor.gateway import Channels
from services.governor.usecases import Telling
from services.kit.alerts import alert_id
from services.kit.connections import Connections
from services.kit.context import Context, system, use
from services.kit.testing import eventually
from tests.governor.conftest import House

SECRET = "whsec_" + "c2VjcmV0IG9mIHRlc3Rz"
WEBHOOK = {"kind": "webhook", "connection": "ops", "path": "/alerts"}


def connect(house: House, url: str, **more: Any) -> None:
    """An administrator names the receiver `ops`."""
    entry = {"name": "ops", "kind": "https", "url": url, "signing": SECRET, **more}
    write(house, entry)


def write(house: House, *entries: dict[str, Any]) -> None:
    """The file of the connections."""
    (house.settings.home / "connections.yaml").write_text(yaml.safe_dump({"connections": list(entries)}))


def raised(kind: str = "slow", subject: str = "credit-live", **changes: Any) -> AlertRaised:
    facts: dict[str, Any] = {
        "alert_id": alert_id(kind, subject), "subject": subject, "kind": kind, "severity": "warning",
        "title": "It answers slowly", "detail": "p99 is 480 ms, promised are 200 ms", "todo": "Look at its hosts",
    }  # fmt: skip
    return AlertRaised(**facts | changes)


def resolved(kind: str = "slow", subject: str = "credit-live", reason: str = "it is quick again") -> AlertResolved:
    return AlertResolved(alert_id=alert_id(kind, subject), subject=subject, reason=reason)


async def routed(
    house: House, *steps: dict[str, Any], name: str = "on-call", who: str = "engineer", unit: str = "retail",
    group_s: float = 0, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Somebody sets a route; without steps, one to the webhook."""
    body = {"steps": list(steps) or [{"channels": [WEBHOOK]}], "group_s": group_s, **more}
    async with house.client(who, unit) as http:
        answer = await http.put(f"/v1/alert-routes/{name}", json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def messenger(house: House, *, attempts: int = 3) -> Telling:
    """Another one, which hardly pauses between attempts."""
    channels = Channels(Connections.of(house.settings))
    return Telling(house.db, channels, "http://console", attempts=attempts, first_pause_s=0.01)


async def look(telling: Telling, times: int = 2) -> None:
    """What it does each second; a second look sends what waited behind the first."""
    with use(Context(system("governor"))):
        for _ in range(times):
            await telling.look()
            await telling.settle()


async def looking_until(telling: Telling, house: House, state: str, count: int = 1) -> list[dict[str, Any]]:
    """Go on until so many messages are in that state."""

    async def there() -> list[dict[str, Any]] | None:
        await look(telling)
        found = [message for message in await told(house) if message["state"] == state]
        return found if len(found) >= count else None

    return await eventually(there, within=10)


async def told(house: House, **params: Any) -> list[dict[str, Any]]:
    """The messages as the API lists them, oldest first."""
    async with house.client("admin", "*") as http:
        return (await http.get("/v1/alert-messages", params=params)).json()["items"][::-1]


async def due_now(house: House) -> None:
    """Time passes: what is gathered, put off or claimed is due."""
    await house.execute("UPDATE alert_message SET send_at = now(), claimed_until = NULL WHERE ended_at IS NULL")
    await house.execute("UPDATE alert_course SET due_at = now() WHERE due_at IS NOT NULL")
