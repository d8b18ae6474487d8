"""People are told of alerts: over routes, by signed webhooks, once an episode, and nothing is lost."""

import base64
import hashlib
import hmac
import time
from collections import Counter
from datetime import timedelta

from starlette.responses import Response

from services.kit.context import Context, system, use
from services.kit.ids import now
from tests.governor import builders
from tests.governor.conftest import House
from tests.governor.receiving import (
    WEBHOOK,
    due_now,
    look,
    messenger,
    raised,
    resolved,
    routed,
    told,
)
from tests.kit.servers import Server

OK = Response(status_code=204)


async def test_without_a_route_nobody_is_told(house: House, receiver: Server) -> None:
    await house.hear(raised())
    await look(house.governor.telling)
    assert (receiver.asked, await told(house)) == ([], [])
    assert await house.rows("SELECT * FROM alert_notice") == []


async def test_an_alert_is_told_once_an_episode_with_all_that_a_person_needs(house: House, receiver: Server) -> None:
    await house.in_business()
    await routed(house, match={"endpoints": ["credit-live"]})
    await house.hear(raised())
    await house.hear(raised(detail="p99 is 500 ms"))
    await house.hear(raised(subject="another"))
    await look(house.governor.telling)
    await house.hear(raised())
    await look(house.governor.telling)
    (body,) = receiver.asked
    (alert,) = body["alerts"]
    assert (alert["what_changed"], alert["how_much"], alert["what_to_do"], alert["status"]) == (
        "It answers slowly", "p99 is 500 ms", "Look at its hosts", "firing",
    )  # fmt: skip
    assert (alert["unit"], alert["use_case"], alert["severity"], alert["times"]) == ("retail", "lending", "warning", 2)
    assert alert["link"].endswith("/endpoints/credit-live")
    assert body["title"] == "[warning] credit-live: It answers slowly"
    assert "Since: 20" in body["text"] and "What to do: Look at its hosts" in body["text"]
    assert receiver.paths == ["/alerts"]
    (message,) = await told(house, alert=alert["alert_id"])
    assert (message["state"], message["attempts"], message["channel"]) == ("sent", 1, WEBHOOK)
    assert body["id"] == message["id"]
    (fact,) = [row for row in await house.audit() if row.action == "alert.told"]
    assert (fact.subject, fact.unit, fact.detail["channel"]) == ("credit-live", "retail", "webhook ops/alerts")


async def test_a_drift_is_told_with_its_evidence_and_since_it_began(house: House, receiver: Server) -> None:
    await house.in_business()
    await routed(house, match={"kinds": ["drift"], "use_cases": ["lending"]})
    await house.hear(builders.drift())
    await look(house.governor.telling)
    (alert,) = receiver.asked[0]["alerts"]
    assert alert["since"] == builders.NOW.isoformat() and alert["seen"] > alert["since"]
    assert alert["how_much"].startswith(
        "AGEP by +0.70 sd (+0.60 to +0.80, tolerance 0.1); seen in a window of 500 rows"
    )
    assert alert["what_changed"] == "credit version 1 sees other data than it learned from"


async def test_what_another_service_knows_of_it_is_passed_on(house: House, receiver: Server) -> None:
    await routed(house)
    await house.hear(raised(since=builders.NOW, how_much="12 %", segment="SEX = 2", cost="1,200 EUR a day"))
    await look(house.governor.telling)
    (alert,) = receiver.asked[0]["alerts"]
    assert (alert["how_much"], alert["segment"], alert["cost"]) == ("12 %", "SEX = 2", "1,200 EUR a day")
    assert "Costs: 1,200 EUR a day" in receiver.asked[0]["text"]


async def test_the_signature_is_that_of_standard_webhooks(house: House, receiver: Server) -> None:
    await routed(house)
    await house.hear(raised())
    await look(house.governor.telling)
    said = receiver.headers[0]
    assert said["webhook-id"] == receiver.asked[0]["id"]
    assert abs(int(said["webhook-timestamp"]) - time.time()) < 60
    signed = f"{said['webhook-id']}.{said['webhook-timestamp']}.".encode() + receiver.bodies[0]
    wanted = base64.b64encode(hmac.new(b"secret of tests", signed, hashlib.sha256).digest()).decode()
    assert said["webhook-signature"] == f"v1,{wanted}"


async def test_a_resolution_is_told_once_to_those_who_were_told(house: House, receiver: Server) -> None:
    await routed(house)
    await house.hear(raised())
    await look(house.governor.telling)
    await routed(house, {"channels": [WEBHOOK | {"path": "/late"}]}, name="too-late")
    await house.hear(resolved())
    await house.hear(resolved())
    await look(house.governor.telling)
    assert receiver.paths == ["/alerts", "/alerts"]
    over = receiver.asked[1]
    assert (over["status"], over["alerts"][0]["resolution"]) == ("resolved", "it is quick again")
    assert over["title"] == "[resolved] credit-live: It answers slowly"
    await house.hear(raised())
    await look(house.governor.telling)
    assert sorted(receiver.paths[2:]) == ["/alerts", "/late"]
    assert {body["alerts"][0]["episode"] for body in receiver.asked[2:]} == {2}


async def test_an_episode_whose_end_is_heard_before_its_beginning_is_told(house: House, receiver: Server) -> None:
    await routed(house)
    at, second = now(), timedelta(seconds=1)
    await house.hear(raised(), said_at=at)
    await house.hear(resolved(), said_at=at + second)
    await look(house.governor.telling)
    await house.hear(resolved(reason="it is quick once more"), said_at=at + 3 * second)
    await look(house.governor.telling)
    assert len(receiver.asked) == 1, "nothing new is known yet"
    await house.hear(raised(), said_at=at + 2 * second)
    await look(house.governor.telling)
    (alert,) = receiver.asked[-1]["alerts"]
    assert (len(receiver.asked), alert["episode"], alert["status"]) == (2, 2, "resolved")
    assert alert["resolution"] == "it is quick once more"
    (row,) = await house.rows("SELECT state, episode, raised_at, resolved_at FROM alert")
    assert row == {"state": "resolved", "episode": 2, "raised_at": at + 2 * second, "resolved_at": at + 3 * second}
    await house.hear(raised(), said_at=at + 4 * second)
    (row,) = await house.rows("SELECT state, episode, resolved_at FROM alert")
    assert row == {"state": "open", "episode": 3, "resolved_at": None}


async def test_alerts_about_one_endpoint_that_come_together_are_one_message(house: House, receiver: Server) -> None:
    await routed(house, group_s=30)
    for kind in ("slow", "drift-of-labels", "over-soon"):
        await house.hear(raised(kind))
        await look(house.governor.telling)
    await house.hear(raised(subject="another"))
    await house.hear(resolved("over-soon"))
    await look(house.governor.telling)
    assert (receiver.asked, {m["state"] for m in await told(house)}) == ([], {"gathering"})
    await due_now(house)
    await look(house.governor.telling)
    by_subject = {body["subject"]: body["alerts"] for body in receiver.asked}
    assert len(receiver.asked) == 2
    assert {alert["kind"]: alert["status"] for alert in by_subject["credit-live"]} == {
        "slow": "firing", "drift-of-labels": "firing", "over-soon": "resolved",
    }  # fmt: skip
    await due_now(house)
    await look(house.governor.telling)
    assert len(receiver.asked) == 2, "what was told as resolved is not told again"


async def test_what_two_routes_send_to_one_receiver_is_told_once(house: House, receiver: Server) -> None:
    await routed(house)
    await routed(house, name="second")
    await routed(house, {"channels": [WEBHOOK | {"path": "/all"}]}, name="everybody", who="admin", unit="*")
    await house.hear(raised())
    await house.hear(raised("ledger-gap", "catalog"), "*")
    await look(house.governor.telling)
    assert Counter((path, body["subject"]) for path, body in zip(receiver.paths, receiver.asked, strict=True)) == {
        ("/alerts", "credit-live"): 1, ("/all", "credit-live"): 1, ("/all", "catalog"): 1,
    }  # fmt: skip


async def test_messages_are_listed_page_by_page(house: House, receiver: Server) -> None:
    await routed(house)
    for number in range(5):
        await house.hear(raised(subject=f"e{number}"))
    await look(house.governor.telling, 6)
    seen, cursor = [], None
    async with house.client("engineer") as http:
        while True:
            params = {"limit": 2, "state": "sent"} | ({"cursor": cursor} if cursor else {})
            answer = (await http.get("/v1/alert-messages", params=params)).json()
            seen += [item["subject"] for item in answer["items"]]
            if not (cursor := answer["next"]):
                break
        assert (await http.get("/v1/alert-messages?cursor=nonsense")).json()["field"] == "cursor"
    assert seen == ["e4", "e3", "e2", "e1", "e0"]


async def test_what_nobody_took_in_time_goes_to_the_next_step_and_what_was_taken_does_not(
    house: House, receiver: Server
) -> None:
    later = {"channels": [WEBHOOK | {"path": "/boss"}], "after_s": 900}
    await routed(house, {"channels": [WEBHOOK]}, later)
    await house.hear(raised())
    await house.hear(raised("drift-of-labels"))
    await look(house.governor.telling)
    assert (receiver.paths, len(receiver.asked[0]["alerts"])) == (["/alerts"], 2)
    async with house.client("engineer") as http:
        (taken,) = [a for a in (await http.get("/v1/alerts")).json()["items"] if a["kind"] == "slow"]
        assert (await http.post(f"/v1/alerts/{taken['id']}/acknowledge", json={"comment": "on it"})).status_code == 200
    await due_now(house)
    await look(house.governor.telling)
    assert receiver.paths[1:] == ["/boss"]
    (alert,) = receiver.asked[1]["alerts"]
    assert (alert["kind"], alert["step"]) == ("drift-of-labels", 1)
    assert receiver.asked[1]["title"].startswith("[still open, warning] credit-live")
    await house.hear(resolved("drift-of-labels"))
    await look(house.governor.telling)
    assert sorted(receiver.paths[2:]) == ["/alerts", "/boss"]


async def test_the_next_step_is_due_so_long_after_the_one_before_and_not_for_what_is_over(
    house: House, receiver: Server
) -> None:
    later = {"channels": [WEBHOOK | {"path": "/boss"}], "after_s": 900}
    await routed(house, {"channels": [WEBHOOK], "after_s": 60}, later)
    await house.hear(raised())
    await look(house.governor.telling)
    assert (receiver.asked, [round(s) for s in await due_in_s(house)]) == ([], [60])
    await due_now(house)
    await look(house.governor.telling)
    assert (receiver.paths, [round(s) for s in await due_in_s(house)]) == (["/alerts"], [900])
    await house.hear(resolved())
    await due_now(house)
    await look(house.governor.telling)
    assert (receiver.paths, await due_in_s(house)) == (["/alerts"] * 2, [])


async def test_messages_are_forgotten_after_90_days_unless_what_they_told_of_is_open(
    house: House, receiver: Server
) -> None:
    await routed(house)
    for kind in ("slow", "open"):
        await house.hear(raised(kind))
        await look(house.governor.telling)
    await house.hear(resolved())
    await look(house.governor.telling)
    await house.execute("UPDATE alert_message SET ended_at = ended_at - interval '91 days'")
    await house.execute("UPDATE alert SET last_at = last_at - interval '91 days'")
    with use(Context(system("governor"))):
        await house.governor.telling.tidy()
    assert [message["title"] for message in await told(house)] == ["[warning] credit-live: It answers slowly"]
    await house.hear(resolved("open"))
    await look(house.governor.telling)
    assert [body["alerts"][0]["kind"] for body in receiver.asked] == ["slow", "open", "slow", "open"]


async def test_what_ends_while_it_is_told_is_told_as_over_once(house: House, receiver: Server) -> None:
    await routed(house, {"channels": [WEBHOOK]}, {"channels": [WEBHOOK], "after_s": 60}, group_s=30)
    telling = messenger(house)
    for kind in ("slow", "open"):
        await house.hear(raised(kind, subject=kind))
        await look(telling)
    await house.hear(resolved(subject="slow"))
    await due_now(house)
    with use(Context(system("governor"))):
        # Another messenger, before this one has heard of the end.
        await telling._all(telling._next_message, telling._message)
    await look(telling)
    assert [body["status"] for body in receiver.asked if body["subject"] == "slow"] == ["resolved"]
    assert len([message for message in await told(house) if message["subject"] == "slow"]) == 1
    await house.hear(resolved("open", subject="open"))  # its second step is gathered
    await look(telling)
    await due_now(house)
    await look(telling)
    assert [body["status"] for body in receiver.asked if body["subject"] == "open"] == ["firing", "resolved"]


async def test_an_alert_that_becomes_worse_is_told_again_and_whoever_took_it_keeps_it(
    house: House, receiver: Server
) -> None:
    boss = {"channels": [WEBHOOK | {"path": "/boss"}], "after_s": 900}
    await routed(house, {"channels": [WEBHOOK]}, boss)
    await routed(house, {"channels": [WEBHOOK | {"path": "/critical"}]}, name="x", match={"severities": ["critical"]})
    await house.hear(raised())
    await look(house.governor.telling)
    assert receiver.paths == ["/alerts"]
    async with house.client("engineer") as http:
        (alert,) = (await http.get("/v1/alerts")).json()["items"]
        assert (await http.post(f"/v1/alerts/{alert['id']}/acknowledge")).status_code == 200
    for severity in ("critical", "warning", "critical"):
        await house.hear(raised(severity=severity))
        await look(house.governor.telling)
        await due_now(house)
        await look(house.governor.telling)
    assert sorted(receiver.paths[1:]) == ["/alerts", "/critical"]
    assert {body["title"] for body in receiver.asked[1:]} == {"[critical] credit-live: It answers slowly"}
    assert {body["alerts"][0]["owner"] for body in receiver.asked[1:]} == {"engineer"}
    await house.hear(resolved())
    await look(house.governor.telling)
    assert sorted(receiver.paths[3:]) == ["/alerts", "/critical"]
    assert {body["status"] for body in receiver.asked[3:]} == {"resolved"}


async def due_in_s(house: House) -> list[float]:
    """When the steps are due that are not over."""
    due = await house.rows("SELECT due_at FROM alert_course WHERE due_at IS NOT NULL")
    return [(row["due_at"] - now()).total_seconds() for row in due]
