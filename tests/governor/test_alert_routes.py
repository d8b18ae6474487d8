"""Routes of alerts: set over the API, refused by the field that is wrong; and for which alerts each is."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from services.governor import metrics
from services.governor.domain import delivery
from services.governor.domain.routing import Case, Channel, Match, Route, Standing, Step, wants, what_is_due
from services.kit.context import Context, system, use
from services.kit.errors import Invalid
from services.kit.ids import now
from tests.governor import builders
from tests.governor.conftest import House
from tests.governor.receiving import WEBHOOK, due_now, look, messenger, raised, resolved, routed, told, write
from tests.kit.servers import Server


async def test_a_route_is_set_seen_changed_and_removed_and_each_is_in_the_ledger(
    house: House, receiver: Server
) -> None:
    made = await routed(house, match={"severities": ["critical"]})
    assert (made["unit"], made["changed_by"]) == ("retail", "engineer")
    changed = await routed(house, match={"severities": ["warning"]})
    async with house.client("engineer") as http:
        assert (await http.get("/v1/alert-routes/on-call")).json() == changed
        assert [r["name"] for r in (await http.get("/v1/alert-routes")).json()["items"]] == ["on-call"]
        await house.hear(raised())
        assert (await http.delete("/v1/alert-routes/on-call")).status_code == 204
        assert (await http.delete("/v1/alert-routes/on-call")).status_code == 404
        assert (await http.get("/v1/alert-routes/on-call")).status_code == 404
    await look(house.governor.telling)
    assert receiver.asked == []
    assert [row.action for row in await house.audit()] == ["alert.routed", "alert.routed", "alert.unrouted"]


@pytest.mark.parametrize(("changes", "field"), [
    ({"steps": []}, "steps"),
    ({"steps": [{"channels": []}]}, "steps.0.channels"),
    ({"steps": [{"channels": [WEBHOOK | {"kind": "pigeon"}]}]}, "steps.0.channels.0.kind"),
    ({"steps": [{"channels": [WEBHOOK | {"connection": "nothing"}]}]}, "steps.0.channels.0.connection"),
    ({"steps": [{"channels": [WEBHOOK | {"connection": "unsigned"}]}]}, "steps.0.channels.0.connection"),
    ({"steps": [{"channels": [WEBHOOK | {"connection": "badly-signed"}]}]}, "steps.0.channels.0.connection"),
    ({"steps": [{"channels": [WEBHOOK | {"connection": "of-wealth"}]}]}, "steps.0.channels.0.connection"),
    ({"steps": [{"channels": [WEBHOOK | {"path": "/../admin"}]}]}, "steps.0.channels.0.path"),
    ({"steps": [{"channels": [WEBHOOK | {"path": "http://evil.example"}]}]}, "steps.0.channels.0.path"),
    ({"steps": [{"channels": [WEBHOOK | {"url": "http://evil.example"}]}]}, "steps.0.channels.0.url"),
    ({"steps": [{"channels": [WEBHOOK]}, {"channels": [WEBHOOK]}]}, "steps.1.after_s"),
    ({"steps": [{"channels": [WEBHOOK], "after_s": -1}]}, "steps.0.after_s"),
    ({"match": {"endpoints": ["credit-live", "nothing"]}}, "match.endpoints.1"),
    ({"match": {"use_cases": ["nothing"]}}, "match.use_cases.0"),
    ({"match": {"severities": ["worst"]}}, "match.severities.0"),
    ({"match": {"kinds": ["a b"]}}, "match.kinds.0"),
    ({"group_s": -1}, "group_s"), ({"group_s": "30"}, "group_s"), ({"unit": "No Unit"}, "unit"), ({"more": 1}, "more"),
])  # fmt: skip
async def test_a_wrong_route_is_refused_by_its_field(house: House, changes: dict[str, Any], field: str) -> None:
    await house.in_business()
    ops: dict[str, Any] = {"name": "ops", "kind": "https", "url": "http://127.0.0.1:9", "signing": "s"}
    write(
        house, ops, {**ops, "name": "badly-signed", "signing": "whsec_*"},
        {**ops, "name": "of-wealth", "units": ["wealth"]},
        {"name": "unsigned", "kind": "https", "url": "http://127.0.0.1:9"},
    )  # fmt: skip
    async with house.client("engineer") as http:
        answer = await http.put("/v1/alert-routes/on-call", json={"steps": [{"channels": [WEBHOOK]}]} | changes)
        assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text
        assert answer.json()["detail"].startswith(f"{field}: ")
        assert (await http.get("/v1/alert-routes")).json()["items"] == []


async def test_who_may_set_routes_and_for_whom(house: House, receiver: Server) -> None:
    body = {"steps": [{"channels": [WEBHOOK]}]}
    for who in ("compliance", "data-scientist", "executive"):
        async with house.client(who, "*") as http:
            assert (await http.put("/v1/alert-routes/x", json=body)).status_code == 403
            assert (await http.get("/v1/alert-routes")).status_code == 200
    async with house.client("engineer", "retail") as http:
        for unit in ("wealth", "*"):
            assert (await http.put("/v1/alert-routes/x", json=body | {"unit": unit})).status_code == 403
    async with house.client("engineer", "retail", "wealth") as http:
        unnamed = await http.put("/v1/alert-routes/x", json=body)
        assert (unnamed.status_code, unnamed.json()["field"]) == (422, "unit")
    await routed(house)
    async with house.client("engineer", "wealth") as http:
        assert (await http.get("/v1/alert-routes")).json()["items"] == []
        assert (await http.get("/v1/alert-routes/on-call")).status_code == 404
        assert (await http.delete("/v1/alert-routes/on-call")).status_code == 404
        taken = await http.put("/v1/alert-routes/on-call", json=body)
        assert (taken.status_code, taken.json()["title"]) == (409, "Conflict")
    await house.hear(raised())
    await look(house.governor.telling)
    async with house.client("engineer", "wealth") as http:
        assert (await http.get("/v1/alert-messages")).json()["items"] == []
    assert len(await told(house)) == 1


async def test_a_setting_for_a_unit_that_nobody_knows_is_refused_by_its_field(house: House, receiver: Server) -> None:
    body = {"steps": [{"channels": [WEBHOOK]}], "unit": "retial"}
    silence = {"unit": "retial", "kind": "drift", "ends_at": (now() + timedelta(hours=1)).isoformat(), "comment": "x"}
    async with house.client("admin", "*") as http:
        for answer in (
            await http.put("/v1/alert-routes/x", json=body),
            await http.post("/v1/alert-silences", json=silence),
        ):
            assert (answer.status_code, answer.json().get("field")) == (422, "unit"), answer.text
            assert answer.json()["detail"].startswith("unit: nothing is registered in a business unit retial")
        assert (await http.put("/v1/alert-routes/x", json=body | {"unit": "*"})).status_code == 201
        await house.hear(builders.use_case())
        assert (await http.put("/v1/alert-routes/y", json=body | {"unit": "retail"})).status_code == 201
    async with house.client("engineer", "new-here") as http:
        assert (await http.put("/v1/alert-routes/z", json=body | {"unit": "new-here"})).status_code == 201


async def test_a_route_that_this_version_cannot_read_fails_alone(house: House, receiver: Server) -> None:
    await routed(house, name="kept-by-a-later-version")
    await routed(house, name="sound")
    await house.execute(
        "UPDATE alert_route SET document = jsonb_set(document, '{steps,0,channels,0,kind}', '\"pigeon\"') "
        "WHERE name LIKE 'kept%'"
    )
    with use(Context(system("governor"))):
        await house.governor.telling.courses.count()
    assert metrics.UNREADABLE._value.get() == 1
    await house.hear(raised())
    await look(house.governor.telling)
    assert len(receiver.asked) == 1
    async with house.client("engineer") as http:
        broken, sound = (await http.get("/v1/alert-routes")).json()["items"]
        assert (broken["name"], broken["steps"], sound["problem"]) == ("kept-by-a-later-version", [], None)
        assert broken["problem"].startswith("this version cannot read it: steps.0.channels.0.kind: ")
        assert (await http.get(f"/v1/alert-routes/{broken['name']}")).json() == broken
        assert (await http.post(f"/v1/alert-routes/{broken['name']}/test")).status_code == 409
        body = {"steps": [{"channels": [WEBHOOK | {"path": "/again"}]}], "group_s": 0}
        mended = await http.put(f"/v1/alert-routes/{broken['name']}", json=body)
        assert (mended.status_code, mended.json()["problem"]) == (200, None)
        await due_now(house)
        await look(house.governor.telling)
        assert receiver.paths == ["/alerts", "/again"], "what it missed is told when it is mended"
        await house.execute("UPDATE alert_route SET document = '7'")
        assert (await http.delete(f"/v1/alert-routes/{broken['name']}")).status_code == 204
    (removed,) = [row for row in await house.audit() if row.action == "alert.unrouted"]
    assert removed.detail["route"] == "7"
    with use(Context(system("governor"))):
        await house.governor.telling.courses.count()
    assert metrics.UNREADABLE._value.get() == 1


async def test_a_step_of_a_route_that_cannot_be_read_waits_until_it_is_set_anew(house: House, receiver: Server) -> None:
    await routed(house, {"channels": [WEBHOOK]}, {"channels": [WEBHOOK | {"path": "/boss"}], "after_s": 900})
    await house.hear(raised())
    telling = messenger(house)
    await look(telling)
    await house.execute("UPDATE alert_route SET document = '{}'")
    await due_now(house)
    await look(telling)
    assert receiver.paths == ["/alerts"]
    await routed(house, {"channels": [WEBHOOK]}, {"channels": [WEBHOOK | {"path": "/boss"}], "after_s": 900})
    await due_now(house)
    await look(telling)
    assert receiver.paths == ["/alerts", "/boss"]


async def test_a_member_that_this_version_does_not_know_makes_a_route_unreadable_and_not_broader(
    house: House, receiver: Server
) -> None:
    await routed(house)
    await house.execute("UPDATE alert_route SET document = jsonb_set(document, '{match,hours}', '[9, 17]')")
    await house.hear(raised())
    await look(house.governor.telling)
    assert receiver.asked == []
    async with house.client("engineer") as http:
        problem = (await http.get("/v1/alert-routes/on-call")).json()["problem"]
    assert problem.startswith("this version cannot read it: match.hours: ")


async def test_on_a_route_that_cannot_be_read_alerts_wait_without_a_failure_and_no_longer_than_they_last(
    house: House, receiver: Server
) -> None:
    await routed(house)
    await house.execute("UPDATE alert_route SET document = '{}'")
    for subject in ("lasts", "ends"):
        await house.hear(raised(subject=subject))
    await house.hear(resolved(subject="ends"))
    telling, before = house.governor.telling, now()
    with use(Context(system("governor"))):
        assert (await telling.look(), metrics.ASIDE._value.get()) == ("", 0)
    due = await house.rows("SELECT due_at FROM alert_course ORDER BY due_at NULLS LAST")
    assert due[0]["due_at"] >= before + timedelta(minutes=5) and due[1]["due_at"] is None
    await routed(house)
    await due_now(house)
    await look(telling)
    assert [body["subject"] for body in receiver.asked] == ["lasts"]


async def test_a_message_whose_channel_cannot_be_read_fails_alone(house: House, receiver: Server) -> None:
    await routed(house, {"channels": [WEBHOOK, WEBHOOK | {"path": "/boss"}]}, group_s=3600)
    await house.hear(raised())
    await look(house.governor.telling)
    await house.execute(
        "UPDATE alert_message SET channel = '{\"kind\": \"pigeon\"}' WHERE channel ->> 'path' = '/boss'"
    )
    await due_now(house)
    await look(house.governor.telling)
    (failed,) = await told(house, state="failed")
    assert (failed["channel"]["kind"], failed["reason"]) == ("unreadable", "this version cannot read the channel")
    assert receiver.paths == ["/alerts"]


async def test_a_resolution_over_a_channel_that_cannot_be_read_is_sent_when_it_can(
    house: House, receiver: Server
) -> None:
    await routed(house)
    await house.hear(raised())
    await look(house.governor.telling)
    await house.execute('UPDATE alert_message SET channel = channel || \'{"kind": "pigeon"}\'')
    await house.hear(resolved())
    await due_now(house)
    await look(house.governor.telling)
    (failed,) = await told(house, state="failed")
    kept = await house.rows("SELECT channel ->> 'kind' AS kind, channel_key FROM alert_message")
    assert ({row["kind"] for row in kept}, len({row["channel_key"] for row in kept})) == ({"pigeon"}, 1)
    await house.execute('UPDATE alert_message SET channel = channel || \'{"kind": "webhook"}\'')
    async with house.client("engineer") as http:
        assert (await http.post(f"/v1/alert-messages/{failed['id']}/again")).status_code == 202
    await look(house.governor.telling)
    assert [body["status"] for body in receiver.asked] == ["firing", "resolved"]


async def test_a_route_is_tried_before_it_is_needed(house: House, receiver: Server) -> None:
    await routed(
        house, {"channels": [WEBHOOK, WEBHOOK | {"kind": "alertmanager"}]},
        {"channels": [WEBHOOK, WEBHOOK | {"path": "/boss"}], "after_s": 900},
    )  # fmt: skip
    async with house.client("engineer") as http:
        answer = await http.post("/v1/alert-routes/on-call/test")
        assert (answer.status_code, len(answer.json()["items"])) == (202, 3)
        assert (await http.post("/v1/alert-routes/another/test")).status_code == 404
    async with house.client("compliance", "*") as http:
        assert (await http.post("/v1/alert-routes/on-call/test")).status_code == 403
    await look(house.governor.telling)
    assert sorted(receiver.paths) == ["/alerts", "/alerts/api/v2/alerts", "/boss"]
    said = {body["title"] for body in receiver.asked if "title" in body}
    assert said == {"[resolved] on-call: This is a test"}
    assert {m["state"] for m in await told(house)} == {"sent"}
    assert [row.subject for row in await house.audit() if row.action == "alert.tested"] == ["on-call"]
    assert (await house.rows("SELECT * FROM alert"), await house.rows("SELECT * FROM alert_told")) == ([], [])


# Pure


def route(**match: Any) -> Route:
    channel = Channel(kind="webhook", connection="ops")
    return Route(name="r", unit="retail", match=Match(**match), steps=(Step(channels=(channel,)),), group_s=30)


CASE = Case("retail", "credit-live", "drift", "warning", "lending")


@pytest.mark.parametrize(("match", "wanted"), [
    ({}, True),
    ({"endpoints": ("credit-live", "x")}, True), ({"endpoints": ("x",)}, False),
    ({"kinds": ("drift",)}, True), ({"kinds": ("slow",)}, False),
    ({"kinds": ("dri",)}, False),
    ({"severities": ("warning",)}, True), ({"severities": ("critical",)}, False),
    ({"use_cases": ("lending",)}, True), ({"use_cases": ("x",)}, False),
    ({"endpoints": ("credit-live",), "severities": ("critical",)}, False),
])  # fmt: skip
def test_a_route_is_for_what_all_its_lists_let_through(match: dict[str, Any], wanted: bool) -> None:
    assert wants(route(**match), CASE) is wanted


def test_a_kind_lets_its_parts_through() -> None:
    rule = Case("retail", "credit-live", "business-rule.limit", "warning", "lending")
    wanted = {kind: wants(route(kinds=(kind,)), rule) for kind in ("business-rule", "business-rule.limit", "business")}
    assert wanted == {"business-rule": True, "business-rule.limit": True, "business": False}
    assert not wants(route(kinds=("business-rule.lim",)), rule)


def test_a_route_is_for_its_unit_and_that_of_all_units_for_every_one() -> None:
    other = Case("wealth", "credit-live", "drift", "warning", None)
    assert not wants(route(), other)
    assert wants(route().model_copy(update={"unit": "*"}), other)
    assert not wants(route(), Case("*", "catalog", "ledger-gap", "critical", None))


def test_what_was_taken_or_is_over_goes_no_further() -> None:
    later = builders.NOW
    told_at_step_0 = {
        Standing(True, "open"): "tell", Standing(True, "open", later): "wait", Standing(True, "acknowledged"): "over",
        Standing(True, "resolved"): "tell", Standing(True, "resolved", later): "over", Standing(False, "open"): "over",
    }  # fmt: skip
    assert {standing: what_is_due(standing, 0) for standing in told_at_step_0} == told_at_step_0
    assert what_is_due(Standing(True, "resolved"), 1) == "over"
    assert what_is_due(Standing(True, "resolved", was_quiet=True), 0) == "over"
    assert what_is_due(Standing(True, "open", was_quiet=True), 0) == "tell"
    worse = Standing(True, "acknowledged", worse=True)
    assert (what_is_due(worse, 0), what_is_due(worse, 1)) == ("tell", "over")
    assert what_is_due(Standing(True, "resolved", worse=True), 0) == "over", "those who were told hear that it ended"


def test_pauses_double_up_to_five_minutes() -> None:
    pauses = [delivery.pause(attempts, 1.0).total_seconds() for attempts in (1, 2, 3, 9, 10, 1000)]
    assert pauses == [1, 2, 4, 256, 300, 300]


def test_a_secret_is_base64_behind_its_mark_and_itself_without() -> None:
    assert (delivery.key_of("whsec_YWJj"), delivery.key_of("abc")) == (b"abc", b"abc")
    with pytest.raises(Invalid) as refused:
        delivery.key_of("whsec_not base64")
    assert "not base64" not in refused.value.message


def test_while_a_secret_is_changed_each_of_both_signs() -> None:
    id, both = UUID(int=1), delivery.signatures(["new", "whsec_b2xk"], UUID(int=1), 7, b"{}")
    new, old = both.split(" ")
    assert new == delivery.signatures(["new"], id, 7, b"{}") and old == delivery.signatures(["old"], id, 7, b"{}")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_é"])
def test_a_secret_that_keeps_nobody_out_signs_nothing(secret: str) -> None:
    with pytest.raises(Invalid, match=r"^signing: "):
        delivery.key_of(secret)
