"""The governor over HTTP, as people with their tokens see it."""

import base64
from datetime import timedelta
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import orjson
import pytest

from contracts import AlertRaised, AlertResolved, RetrainingRequested
from services.governor.usecases.approvals import evidence_digest
from services.kit.ids import now
from services.kit.inputs import as_cursor
from tests.governor import test_ledger as books
from tests.governor.builders import DIGEST, deployment, drift, model
from tests.governor.conftest import House


async def test_an_approval_is_found_read_and_granted(house: House) -> None:
    await house.asked()
    async with house.client("compliance", "*") as http:
        pending = (await http.get("/v1/approvals", params={"state": "pending"})).json()["items"]
        (approval,) = pending
        assert {gate["name"] for gate in approval["gates"]} > {"security-scan-clean", "schema-complete"}
        granted = await http.post(
            f"/v1/approvals/{approval['id']}/decision", json={"decision": "grant", "reason": "ok"}
        )
        assert granted.status_code == 200
        assert granted.json()["state"] == "granted"
        assert granted.json()["grant"]["statement"]["granted_by"] == "compliance"
        assert (await http.get("/v1/approvals", params={"state": "pending"})).json()["items"] == []
        read = (await http.get(f"/v1/approvals/{approval['id']}")).json()
        from contracts import Gate

        assert evidence_digest(tuple(Gate(**g) for g in read["gates"])) == read["evidence_digest"]
        revoked = await http.post(f"/v1/approvals/{approval['id']}/revoke", json={"reason": "flaw"})
        assert revoked.json()["state"] == "revoked"
        again = await http.post(f"/v1/approvals/{approval['id']}/revoke", json={"reason": "flaw"})
        assert (again.status_code, again.json()["title"]) == (409, "Conflict")


async def test_who_may_not_decide_is_refused(house: House) -> None:
    approval = await house.approval_of(await house.asked(requested_by="compliance"))
    path, grant = f"/v1/approvals/{approval}/decision", {"decision": "grant", "reason": "ok"}
    async with house.client("engineer") as http:
        assert (await http.post(path, json=grant)).status_code == 403
    async with house.client("compliance", "*") as http:
        refused = await http.post(path, json=grant)
        assert refused.status_code == 403
        assert "compliance asked for this" in refused.json()["detail"]
    async with house.client("robot", "*", roles=("admin",), kind="service") as http:
        assert (await http.post(path, json=grant)).status_code == 403
    async with house.client("compliance", "wealth") as http:
        assert (await http.post(path, json=grant)).status_code == 404
    assert [row["state"] for row in await house.rows("SELECT state FROM approval")] == ["pending"]


@pytest.mark.parametrize("body", [
    {}, {"decision": "grant"}, {"decision": "maybe", "reason": "x"}, {"decision": "grant", "reason": 7},
    {"decision": "grant", "reason": " "}, {"decision": "grant", "reason": "x" * 2001},
    {"decision": "grant", "reason": "x", "as": "admin"}, [], "grant", None,
])  # fmt: skip
async def test_a_decision_that_is_none_changes_nothing(house: House, body: Any) -> None:
    approval = await house.approval_of(await house.asked())
    async with house.client("compliance", "*") as http:
        answer = await http.post(f"/v1/approvals/{approval}/decision", json=body)
    assert answer.status_code == 422
    assert len(answer.content) < 2048
    assert [row["state"] for row in await house.rows("SELECT state FROM approval")] == ["pending"]


_ODD = ["%00", "%ff", "%F0%9F%98%80", "x" * 5000, "'", "\\", "%ED%A0%80"]


@pytest.mark.parametrize("odd", _ODD)
async def test_no_text_breaks_a_list(house: House, odd: str) -> None:
    async with house.client("admin", "*") as http:
        for path in ("audit?subject=", "audit?actor=", "processes?model=", "alerts?subject=", "policies?version=",
                     "approvals?cursor=", "reports/history?model=", "templates/"):  # fmt: skip
            answer = await http.get(f"/v1/{path}{odd}")
            assert answer.status_code < 500, path
            assert len(answer.content) < 2048


@pytest.mark.parametrize("moment", [
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", 7, None, "x",
])  # fmt: skip
async def test_a_cursor_with_an_impossible_moment_is_refused(house: House, moment: Any) -> None:
    cursor = base64.urlsafe_b64encode(orjson.dumps([moment, str(uuid4())])).decode().rstrip("=")
    async with house.client("admin", "*") as http:
        for path in ("approvals", "alerts", "processes"):
            answer = await http.get(f"/v1/{path}", params={"cursor": cursor})
            assert (answer.status_code, answer.json()["field"]) == (422, "cursor"), path


@pytest.mark.parametrize("odd", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "1e400", "NaN", ""])
async def test_no_moment_breaks_the_ledger(house: House, odd: str) -> None:
    async with house.client("admin", "*") as http:
        assert (await http.get(f"/v1/audit?since={odd}")).status_code == 422


@pytest.mark.parametrize("reason", ["\x00", "a\x00b"])
async def test_a_reason_that_cannot_be_kept_is_refused(house: House, reason: str) -> None:
    approval = await house.approval_of(await house.in_business())
    async with house.client("admin", "*") as http:
        revoke = await http.post(f"/v1/approvals/{approval}/revoke", json={"reason": reason})
        retrain = await http.post("/v1/retrainings", json={"endpoint": "credit-live", "reason": reason})
        surrogate = await http.post(f"/v1/approvals/{approval}/revoke", content=b'{"reason": "\\ud800"}')
    assert [revoke.status_code, retrain.status_code, surrogate.status_code] == [422, 422, 422]


async def test_a_repeated_decision_with_its_key_gets_the_same_answer(house: House) -> None:
    approval = await house.approval_of(await house.asked())
    path, grant = f"/v1/approvals/{approval}/decision", {"decision": "grant", "reason": "ok"}
    async with house.client("compliance", "*") as http:
        first = await http.post(path, json=grant, headers={"Idempotency-Key": "once"})
        second = await http.post(path, json=grant, headers={"Idempotency-Key": "once"})
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.json() == second.json()
        assert (await http.post(path, json=grant)).status_code == 409


async def test_another_business_unit_sees_nothing(house: House) -> None:
    asked = await house.in_business()
    await house.hear(drift(retrain=False))
    await books.record(house, books.row(1))
    approval = await house.approval_of(asked)
    (process,) = await house.rows("SELECT id FROM process")
    (alert,) = await house.rows("SELECT id FROM alert")
    async with house.client("other-unit", "wealth", roles=("admin", "compliance")) as http:
        for path in (f"/v1/approvals/{approval}", f"/v1/processes/{process['id']}", "/v1/reports/history?model=credit"):
            assert (await http.get(path)).status_code == 404, path
        for path in ("/v1/approvals", "/v1/processes", "/v1/alerts", "/v1/audit"):
            assert (await http.get(path)).json()["items"] == [], path
        assert (await http.post(f"/v1/alerts/{alert['id']}/acknowledge")).status_code == 404
        assert (await http.post(f"/v1/approvals/{approval}/revoke", json={"reason": "x"})).status_code == 404
        ask = {"endpoint": "credit-live", "reason": "x"}
        assert (await http.post("/v1/retrainings", json=ask)).status_code == 404
        assert (await http.get("/v1/kpis")).json()["endpoints"] == 0
        for path in ("/v1/audit/export", "/v1/audit/checkpoints"):
            assert (await http.get(path)).status_code == 403, path
        assert (await http.post("/v1/audit/verify")).status_code == 403


async def test_nothing_but_identity_is_open(house: House) -> None:
    async with house.client("nobody") as http:
        http.headers.pop("Authorization")
        for path in ("approvals", "processes", "templates", "policies", "audit", "alerts", "kpis", "reports/history"):
            assert (await http.get(f"/v1/{path}?model=x")).status_code == 401, path
        discovery = (await http.get("/.well-known/openid-configuration")).json()
        keys = (await http.get("/.well-known/jwks.json")).json()["keys"]
    assert discovery["issuer"] == "urn:fairlead:embedded"
    assert discovery["jwks_uri"].endswith("/.well-known/jwks.json")
    assert keys
    assert all("d" not in key for key in keys)


async def test_a_process_shows_its_way_through_the_diagram(house: House) -> None:
    await house.asked()
    async with house.client("engineer") as http:
        (process,) = (await http.get("/v1/processes", params={"model": "credit", "use_case": "lending"})).json()[
            "items"
        ]
        assert (await http.get("/v1/processes", params={"model": "other"})).json()["items"] == []
        detail = (await http.get(f"/v1/processes/{process['id']}")).json()
        template = await http.get(f"/v1/templates/{process['template']}")
        names = [t["name"] for t in (await http.get("/v1/templates")).json()["items"]]
        policies = (await http.get("/v1/policies")).json()
        kept = (await http.get("/v1/policies", params={"version": detail["policy_version"]})).json()
        assert (await http.get("/v1/policies", params={"version": "policies-0"})).status_code == 404
        assert (await http.get("/v1/templates/nothing")).status_code == 404
    assert names == ["retraining", "standard"]
    ids = [step["id"] for step in detail["steps"]]
    assert {"start", "security", "completeness", "quality", "gates_passed", "approve"} <= set(ids)
    assert [s["state"] for s in detail["steps"] if s["id"] == "approve"] == ["waiting"]
    drawn = {element.get("id") for element in ElementTree.fromstring(template.text).iter()}
    assert set(ids) <= drawn
    assert template.headers["content-type"].startswith("application/xml")
    assert policies == kept
    assert policies["version"] == detail["policy_version"]


async def test_lists_go_on_page_by_page(house: House) -> None:
    await house.asked()
    for number in range(4):
        await house.hear(deployment(endpoint=f"e{number}"))
    async with house.client("engineer") as http:
        for path in ("/v1/approvals", "/v1/processes"):
            seen, cursor = [], None
            while True:
                params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
                answer = (await http.get(path, params=params)).json()
                seen += [item["endpoint"] for item in answer["items"]]
                if not (cursor := answer["next"]):
                    break
            assert seen == ["e3", "e2", "e1", "e0", "credit-live"], path
            for odd in ("nonsense", as_cursor("x", "y"), as_cursor(1, 2), as_cursor("2026-03-01", str(uuid4()))):
                assert (await http.get(path, params={"cursor": odd})).status_code == 422, odd
    async with house.client("compliance", "*") as http:
        for odd in ("nonsense", as_cursor("x"), as_cursor(2**63)):
            assert (await http.get("/v1/audit", params={"cursor": odd})).status_code == 422, odd


async def test_a_person_asks_for_a_retraining_once(house: House) -> None:
    await house.in_business()
    async with house.client("engineer") as http:
        answer = await http.post("/v1/retrainings", json={"endpoint": "credit-live", "reason": "new rules"})
        assert answer.status_code == 202
        again = await http.post("/v1/retrainings", json={"endpoint": "credit-live", "reason": "new rules"})
        assert again.status_code == 409
        assert "under way" in again.json()["detail"]
        assert (await http.post("/v1/retrainings", json={"endpoint": "none", "reason": "x"})).status_code == 404
        assert (await http.post("/v1/retrainings", json={"endpoint": "No Name", "reason": "x"})).status_code == 422
        naive = {"endpoint": "credit-live", "reason": "x", "since": "2026-03-01T00:00:00"}
        assert (await http.post("/v1/retrainings", json=naive)).json()["field"] == "since"
    async with house.client("compliance", "*") as http:
        assert (await http.post("/v1/retrainings", json={"endpoint": "credit-live", "reason": "x"})).status_code == 403
    (event,) = await house.said(RetrainingRequested)
    assert isinstance(event, RetrainingRequested)
    assert (event.cause, event.requested_by, str(event.retraining_id)) == (
        "person", "engineer", answer.json()["retraining_id"],
    )  # fmt: skip


async def test_an_alert_gets_one_owner(house: House) -> None:
    await house.hear(AlertRaised(alert_id=uuid4(), subject="credit-live", kind="slow", severity="warning",
                                 title="Slow", detail="80 ms", todo="Look"))  # fmt: skip
    async with house.client("engineer") as http:
        (alert,) = (await http.get("/v1/alerts", params={"state": "open"})).json()["items"]
        path = f"/v1/alerts/{alert['id']}/acknowledge"
        taken = (await http.post(path, json={"comment": "mine"})).json()
        assert (taken["state"], taken["owner"], taken["comment"]) == ("acknowledged", "engineer", "mine")
        assert (await http.post(path)).status_code == 200
        for states, count in (("", 1), ("state=open", 0), ("state=acknowledged", 1),
                              ("state=open&state=acknowledged", 1), ("state=open&state=resolved", 0)):  # fmt: skip
            assert len((await http.get(f"/v1/alerts?{states}")).json()["items"]) == count, states
        assert (await http.get("/v1/alerts?state=open&state=new")).status_code == 422
        assert (await http.post(f"/v1/alerts/{uuid4()}/acknowledge")).status_code == 404
    async with house.client("data-scientist") as http:
        assert (await http.post(path)).status_code == 409
    async with house.client("executive", "*") as http:
        assert (await http.post(path)).status_code == 403


async def test_a_long_history_is_told_in_parts_that_say_so(house: House) -> None:
    await house.hear(model())
    await books.record(house, *(books.row(number, subject="credit") for number in range(1, 6)))
    cursor, numbers, pages = None, list[int](), list[str]()
    async with house.client("compliance", "*") as http:
        while True:
            params = {"model": "credit", "limit": 2} | ({"cursor": cursor} if cursor else {})
            part = (await http.get("/v1/reports/history", params=params)).json()
            numbers += [fact["number"] for fact in part["facts"]]
            pages.append(part["markdown"])
            if not (cursor := part["next"]):
                break
    assert numbers == [1, 2, 3, 4, 5]
    assert ["not all" in page for page in pages] == [True, True, False]


async def test_versions_and_decisions_of_a_long_history_are_told_once_each(house: House) -> None:
    asked = [await house.asked(endpoint=f"credit-{n}") for n in range(3)]
    for version in (2, 3):
        await house.hear(model(version=version, digest=DIGEST[:-1] + str(version)))
    cursor, told = None, list[tuple[list[int], list[str]]]()
    async with house.client("compliance", "*") as http:
        while True:
            params = {"model": "credit", "limit": 2} | ({"cursor": cursor} if cursor else {})
            part = (await http.get("/v1/reports/history", params=params)).json()
            told.append(([v["version"] for v in part["versions"]], [a["endpoint"] for a in part["approvals"]]))
            if not (cursor := part["next"]):
                break
    assert told == [([1, 2], [asked[0].endpoint, asked[1].endpoint]), ([3], [asked[2].endpoint])]


async def test_a_dispute_ends_when_compliance_says_what_was_found(house: House) -> None:
    await books.record(house, books.row(1))
    await books.record(house, books.row(1, actor="mallory"))
    (alarm,) = await house.said(AlertRaised)
    await house.hear(alarm, "*", source="/fairlead/governor")
    other = AlertRaised(alert_id=uuid4(), subject="x", kind="slow", severity="info", title="t", detail="d", todo="t")
    await house.hear(other)
    assert isinstance(alarm, AlertRaised)
    path, reason = f"/v1/alerts/{alarm.alert_id}/close", {"reason": "set back by an operator, rows compared"}
    async with house.client("engineer", "*") as http:
        assert (await http.post(path, json=reason)).status_code == 403
    async with house.client("compliance", "retail") as http:
        assert (await http.post(path, json=reason)).status_code == 404
    async with house.client("compliance", "*") as http:
        assert (await http.post(path, json={})).status_code == 422
        assert (await http.post(f"/v1/alerts/{other.alert_id}/close", json=reason)).status_code == 409
        listed = (await http.get("/v1/alerts")).json()["items"]
        assert {alert["kind"]: alert["closable"] for alert in listed} == {"ledger-dispute": True, "slow": False}
        closed = (await http.post(path, json=reason)).json()
        assert (await http.post(path, json=reason)).status_code == 409
    assert (closed["state"], closed["resolution"]) == ("resolved", f"compliance: {reason['reason']}")
    (over,) = await house.said(AlertResolved)
    assert isinstance(over, AlertResolved)
    assert over.alert_id == alarm.alert_id
    (recorded,) = [row for row in await house.audit() if row.action == "alert.resolved"]
    assert (recorded.actor, recorded.detail) == ("compliance", {"kind": "ledger-dispute"} | reason)


async def test_a_refused_candidate_is_closed_by_a_person_whose_finding_outlives_the_next_candidate(
    house: House,
) -> None:
    refused = AlertRaised(
        alert_id=uuid4(),
        subject="credit",
        kind="candidate-refused",
        severity="warning",
        title="t",
        detail="d",
        todo="t",
    )
    await house.hear(refused)
    async with house.client("compliance", "retail") as http:
        closed = await http.post(f"/v1/alerts/{refused.alert_id}/close", json={"reason": "the recipe is given up"})
        assert closed.status_code == 200, closed.text
        await house.hear(AlertResolved(alert_id=refused.alert_id, subject="credit", reason="version 3 was registered"))
        (listed,) = (await http.get("/v1/alerts")).json()["items"]
    assert (listed["state"], listed["resolution"]) == ("resolved", "compliance: the recipe is given up")


async def test_the_ledger_is_read_checked_and_taken_away(house: House) -> None:
    before = now() - timedelta(seconds=1)
    await books.record(house, books.row(1), books.row(2, actor="admin"), books.row(1, "deployer", unit="wealth"))
    await books.seal(house)
    async with house.client("compliance", "*") as http:
        items = (await http.get("/v1/audit", params={"since": before.isoformat()})).json()["items"]
        assert [item["position"] for item in items] == [3, 2, 1]
        assert items[2]["detail"] == {"number": 1}
        (by_admin,) = (await http.get("/v1/audit", params={"actor": "admin", "subject": "credit"})).json()["items"]
        assert by_admin["number"] == 2
        verdict = (await http.post("/v1/audit/verify")).json()
        assert (verdict["ok"], verdict["records"], verdict["checkpoints"]) == (True, 3, 1)
        assert len((await http.get("/v1/audit/export")).text.splitlines()) == 3
        assert len((await http.get("/v1/audit/checkpoints")).text.splitlines()) == 1
        assert (await http.get("/v1/audit", params={"since": "2026-03-01T00:00:00"})).status_code == 422
    async with house.client("compliance", "retail") as http:
        assert len((await http.get("/v1/audit")).json()["items"]) == 2
    async with house.client("engineer") as http:
        assert (await http.get("/v1/audit")).status_code == 403


async def test_figures_and_the_history_of_a_model(house: House) -> None:
    await house.in_business()
    await house.hear(drift())
    await books.record(house, books.row(1, subject="credit"), books.row(2, subject="a|b\n<x>", action="x"))
    async with house.client("compliance", "*") as http:
        figures = (await http.get("/v1/kpis")).json()
        report = (await http.get("/v1/reports/history", params={"model": "credit"})).json()
        page = await http.get("/v1/reports/history", params={"model": "credit", "format": "markdown"})
        assert (await http.get("/v1/reports/history", params={"model": "none"})).status_code == 404
        assert (await http.get("/v1/reports/other", params={"model": "credit"})).status_code == 422
    told = {name: figures[name] for name in ("models", "endpoints", "drifts", "retrainings", "granted_approvals")}
    assert told == {"models": 1, "endpoints": 1, "drifts": 1, "retrainings": 1, "granted_approvals": 1}
    assert figures["request_to_decision_s"] > 0
    assert report["versions"][0]["digest"] == model().digest
    assert report["approvals"][0]["state"] == "granted"
    assert [fact["action"] for fact in report["facts"]] == ["model.registered"]
    assert page.headers["content-type"].startswith("text/markdown")
    assert "# History of credit" in page.text
    assert "passed: security-scan-clean" in page.text
