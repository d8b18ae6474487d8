"""Maintenance windows: alerts are raised and kept, not told, and told at the end where they are still open."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.governor.domain.routing import Case
from services.governor.domain.silence import Silence, quiet_until
from services.kit.context import Context, system, use
from services.kit.ids import now
from tests.governor.builders import NOW, some_id
from tests.governor.conftest import House
from tests.governor.receiving import WEBHOOK, due_now, look, raised, resolved, routed
from tests.kit.servers import Server

HOUR = timedelta(hours=1)


async def silenced(house: House, who: str = "engineer", unit: str = "retail", **more: Any) -> dict[str, Any]:
    """Somebody silences the endpoint of the tests for an hour."""
    body = {"endpoint": "credit-live", "ends_at": (now() + HOUR).isoformat(), "comment": "new hosts", **more}
    async with house.client(who, unit) as http:
        answer = await http.post("/v1/alert-silences", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/alert-silences/{answer.json()['id']}"
    return answer.json()


async def over(house: House, silence: dict[str, Any]) -> None:
    """Time passes until it has just ended."""
    at = now()
    await house.execute(
        "UPDATE alert_silence SET starts_at = :start, ends_at = :at WHERE id = :id",
        id=UUID(silence["id"]), start=at - HOUR, at=at,
    )  # fmt: skip
    await due_now(house)


def kinds(receiver: Server) -> list[tuple[str, str]]:
    """What was told, in order."""
    return [(alert["kind"], alert["status"]) for body in receiver.asked for alert in body["alerts"]]


async def test_what_is_raised_in_a_window_is_kept_and_told_at_its_end_if_it_is_still_open(
    house: House, receiver: Server
) -> None:
    await house.in_business()
    await routed(house)
    silence = await silenced(house)
    for kind in ("slow", "passing"):
        await house.hear(raised(kind))
    await house.hear(raised(subject="another"))
    await look(house.governor.telling)
    await house.hear(resolved("passing"))
    await due_now(house)
    await look(house.governor.telling)
    assert [body["subject"] for body in receiver.asked] == ["another"]
    async with house.client("engineer") as http:
        alerts = (await http.get("/v1/alerts", params={"subject": "credit-live"})).json()["items"]
    assert {alert["kind"]: alert["state"] for alert in alerts} == {"slow": "open", "passing": "resolved"}
    await over(house, silence)
    await look(house.governor.telling)
    assert kinds(receiver)[1:] == [("slow", "firing")]


async def test_what_ended_just_before_its_window_did_is_not_told(house: House, receiver: Server) -> None:
    await house.in_business()
    await routed(house)
    silence = await silenced(house)
    await house.hear(raised())
    await look(house.governor.telling)
    await house.hear(resolved())
    await over(house, silence)
    await look(house.governor.telling)
    assert receiver.asked == []


async def test_a_silence_of_a_kind_lets_other_kinds_and_units_through(house: House, receiver: Server) -> None:
    await routed(house, who="admin", unit="*")
    await silenced(house, endpoint=None, kind="slow")
    await house.hear(raised())
    await house.hear(raised("drift-of-labels"))
    await house.hear(raised(subject="savings"), "wealth")
    await look(house.governor.telling)
    assert sorted((body["subject"], body["alerts"][0]["kind"]) for body in receiver.asked) == [
        ("credit-live", "drift-of-labels"), ("savings", "slow"),
    ]  # fmt: skip


async def test_a_window_that_comes_holds_nothing_back_yet_and_one_that_is_ended_no_more(
    house: House, receiver: Server
) -> None:
    await house.in_business()
    await routed(house)
    coming = await silenced(
        house, starts_at=(now() + HOUR).isoformat(), ends_at=(now() + 2 * HOUR).isoformat()
    )  # fmt: skip
    assert coming["state"] == "coming"
    await house.hear(raised())
    await look(house.governor.telling)
    assert kinds(receiver) == [("slow", "firing")]
    active = await silenced(house)
    await house.hear(raised("another"))
    await look(house.governor.telling)
    async with house.client("engineer") as http:
        ended = await http.post(f"/v1/alert-silences/{active['id']}/end")
        assert (ended.json()["state"], ended.json()["ended_by"]) == ("over", "engineer")
        again = await http.post(f"/v1/alert-silences/{active['id']}/end")
        assert (again.status_code, again.json()["title"]) == (409, "Conflict")
        early = (await http.post(f"/v1/alert-silences/{coming['id']}/end")).json()
        assert early["ends_at"] == early["starts_at"] == coming["starts_at"]
        assert early["state"] == "over", "it will never begin"
        assert (await http.post(f"/v1/alert-silences/{coming['id']}/end")).status_code == 409
        left = (await http.get("/v1/alert-silences", params={"state": ["active", "coming"]})).json()["items"]
        assert left == []
    (course,) = await house.rows("SELECT due_at FROM alert_course WHERE silenced")
    assert course["due_at"] < now() + timedelta(seconds=10), "it is seen within seconds that it was ended"
    await due_now(house)
    await look(house.governor.telling)
    assert kinds(receiver)[1:] == [("another", "firing")]


async def test_who_was_told_before_a_window_is_told_of_the_end_within_it_and_nobody_else_is(
    house: House, receiver: Server
) -> None:
    await house.in_business()
    await routed(house, {"channels": [WEBHOOK]}, {"channels": [WEBHOOK | {"path": "/boss"}], "after_s": 60})
    await house.hear(raised())
    await look(house.governor.telling)
    await silenced(house)
    await due_now(house)
    await look(house.governor.telling)
    await house.hear(resolved())
    await look(house.governor.telling)
    assert (receiver.paths, kinds(receiver)) == (["/alerts"] * 2, [("slow", "firing"), ("slow", "resolved")])


async def test_silences_are_seen_by_state_and_are_in_the_ledger(house: House) -> None:
    await house.in_business()
    before = len(await house.audit())
    made = [await silenced(house, kind=f"k{number}") for number in range(3)]
    await over(house, made[0])
    async with house.client("compliance", "retail") as http:
        listed = (await http.get("/v1/alert-silences", params={"limit": 2})).json()
        rest = (await http.get("/v1/alert-silences", params={"cursor": listed["next"]})).json()
        assert [item["id"] for item in listed["items"] + rest["items"]] == [s["id"] for s in made[::-1]]
        for state, ids in (("active", made[:0:-1]), ("over", made[:1]), ("coming", [])):
            found = (await http.get("/v1/alert-silences", params={"state": state})).json()["items"]
            assert [item["id"] for item in found] == [silence["id"] for silence in ids], state
        assert (await http.get(f"/v1/alert-silences/{made[1]['id']}")).json() == made[1]
        assert (await http.post(f"/v1/alert-silences/{made[1]['id']}/end")).status_code == 403
        assert (await http.get(f"/v1/alert-silences/{uuid4()}")).status_code == 404
    async with house.client("engineer", "wealth") as http:
        assert (await http.get("/v1/alert-silences")).json()["items"] == []
        assert (await http.get(f"/v1/alert-silences/{made[1]['id']}")).status_code == 404
        assert (await http.post(f"/v1/alert-silences/{made[1]['id']}/end")).status_code == 404
    facts = (await house.audit())[before:]
    assert [(row.action, row.subject, row.actor) for row in facts] == [
        ("alert.silenced", "credit-live", "engineer")
    ] * 3
    assert facts[0].detail["comment"] == "new hosts"


def at(hours: float) -> str:
    return (now() + hours * HOUR).isoformat()


@pytest.mark.parametrize(("changes", "field"), [
    ({"ends_at": at(1), "starts_at": at(2)}, "ends_at"),
    ({"ends_at": at(-1)}, "ends_at"),
    ({"ends_at": at(-1), "starts_at": at(-2)}, "ends_at"),
    ({"ends_at": at(24 * 91)}, "ends_at"),
    ({"ends_at": "2026-03-01T00:00:00"}, "ends_at"), ({"ends_at": "soon"}, "ends_at"), ({"ends_at": None}, "ends_at"),
    ({"starts_at": "2026-03-01T00:00:00"}, "starts_at"),
    ({"endpoint": "nothing"}, "endpoint"), ({"endpoint": None}, "endpoint"), ({"endpoint": "No Name"}, "endpoint"),
    ({"kind": "a b"}, "kind"), ({"unit": "wealth"}, "unit"), ({"comment": ""}, "comment"), ({"until": at(1)}, "until"),
])  # fmt: skip
async def test_a_wrong_silence_is_refused_by_its_field(house: House, changes: dict[str, Any], field: str) -> None:
    await house.in_business()
    body = {"endpoint": "credit-live", "ends_at": at(1), "comment": "new hosts"} | changes
    async with house.client("engineer") as http:
        answer = await http.post("/v1/alert-silences", json=body)
        assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text
        missing = await http.post("/v1/alert-silences", json={"kind": "slow", "comment": "x"})
        assert (missing.status_code, missing.json()["field"]) == (422, "ends_at")
        assert (await http.get("/v1/alert-silences")).json()["items"] == []


async def test_who_may_silence_and_for_whom(house: House) -> None:
    await house.in_business()
    body = {"endpoint": "credit-live", "ends_at": at(1), "comment": "x"}
    for who in ("compliance", "data-scientist", "executive"):
        async with house.client(who) as http:
            assert (await http.post("/v1/alert-silences", json=body)).status_code == 403, who
    async with house.client("engineer", "wealth") as http:
        unseen = await http.post("/v1/alert-silences", json=body)
        assert (unseen.status_code, unseen.json()["field"]) == (422, "endpoint")
        everything = {"kind": "slow", "ends_at": at(1), "comment": "x", "unit": "*"}
        assert (await http.post("/v1/alert-silences", json=everything)).status_code == 403


# Pure

SILENCE = Silence(some_id(1), "retail", "credit-live", None, NOW, NOW + HOUR, "new hosts", "engineer", NOW)
CASE = Case("retail", "credit-live", "drift", "warning", "lending")


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5), st.integers(0, 40))
def test_it_is_quiet_until_the_last_window_that_holds_ends(spans: list[tuple[int, int]], minute: int) -> None:
    def moment(minutes: int) -> datetime:
        return NOW + timedelta(minutes=minutes)

    windows = [replace(SILENCE, starts_at=moment(start), ends_at=moment(start + length)) for start, length in spans]
    ends = [start + length for start, length in spans if start <= minute < start + length]
    assert quiet_until(windows, CASE, moment(minute)) == (moment(max(ends)) if ends else None)


@pytest.mark.parametrize(("changes", "holds"), [
    ({}, True), ({"unit": "wealth"}, False), ({"unit": "*"}, True), ({"endpoint": "another"}, False),
    ({"kind": "drift"}, True), ({"kind": "slow"}, False), ({"endpoint": None, "kind": "drift"}, True),
])  # fmt: skip
def test_a_silence_holds_for_its_unit_endpoint_and_kind(changes: dict[str, Any], holds: bool) -> None:
    assert (quiet_until([replace(SILENCE, **changes)], CASE, NOW) is not None) is holds


async def test_a_silence_is_forgotten_when_it_is_long_over(house: House) -> None:
    old, young, active = [await silenced(house, endpoint=None, kind=kind) for kind in ("old", "young", "active")]
    for silence, days in ((old, 91), (young, 89)):
        await house.execute(
            "UPDATE alert_silence SET starts_at = starts_at - make_interval(days => :days), "
            "ends_at = ends_at - make_interval(days => :days) WHERE id = :id",
            id=UUID(silence["id"]), days=days,
        )  # fmt: skip
    with use(Context(system("governor"))):
        await house.governor.telling.tidy()
    async with house.client("engineer") as http:
        items = (await http.get("/v1/alert-silences")).json()["items"]
    assert [each["kind"] for each in items] == ["active", "young"] and active["id"] == items[0]["id"]
