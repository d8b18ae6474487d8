"""The pages of routes and silences, on a governor that answers, refuses or cannot say."""

from pathlib import Path
from uuid import uuid4

import httpx

from services.console.settings import ConsoleSettings
from services.kit.tokens import mint

from .conftest import Client, Peer


async def signed_in(as_: Client, token: str) -> httpx.AsyncClient:
    browser = as_("")
    assert (await browser.post("/login", data={"token": token})).status_code == 303
    return browser


async def test_a_new_route_takes_no_others_place_where_it_is_not_known_whether_there_is_one(
    as_: Client, governor: Peer, home: Path
) -> None:
    browser = await signed_in(as_, (home / "tokens" / "engineer.jwt").read_text())
    page = (await browser.get("/alerts/routes?new=true")).text
    csrf = {"x-csrf-token": page.partition('name="csrf" content="')[2].partition('"')[0]}
    said = {"name": "on-call", "steps.0.after_s": "0", "steps.0.channels.0.kind": "webhook"}

    async def save() -> tuple[int, str, int]:
        answer = await browser.post("/alerts/routes", data=said, headers=csrf)
        return answer.status_code, answer.text, sum(request.method == "PUT" for request, _ in governor.seen)

    governor.away = True
    status, text, puts = await save()
    assert (status, puts) == (200, 0) and "the database is away" in text
    governor.away, governor.routes = False, [{"name": "on-call", "unit": "retail", "problem": "old", "steps": []}]
    _, text, puts = await save()
    assert puts == 0 and "there is a route on-call already" in text.casefold()
    governor.routes = []
    status, _, puts = await save()
    assert (status, puts) == (204, 1)


async def test_who_is_of_no_unit_still_gets_the_form(as_: Client, governor: Peer, settings: ConsoleSettings) -> None:
    browser = await signed_in(as_, mint(settings.keys / "issuer.key", "nobody", ["engineer"], [], "person"))
    assert (await browser.get("/alerts/routes?new=true")).status_code == 200


async def test_silences_that_hold_come_before_those_that_are_over_and_more_than_are_shown_are_said(
    as_: Client, governor: Peer, home: Path
) -> None:
    at = "2026-03-01T12:00:00Z"
    one = {"endpoint": "credit", "kind": None, "unit": "retail", "starts_at": at, "ends_at": at, "author": "engineer"}
    governor.silences = [one | {"id": str(uuid4()), "state": "over", "comment": f"old {n}"} for n in range(501)]
    governor.silences += [
        one | {"id": str(uuid4()), "state": state, "comment": state} for state in ("coming", "active")
    ]
    governor.routes = [{"name": f"r{n}", "unit": "retail", "problem": "old", "changed_by": "x", "changed_at": at}
                       for n in range(501)]  # fmt: skip
    browser = await signed_in(as_, (home / "tokens" / "engineer.jwt").read_text())
    page = (await browser.get("/alerts/silences")).text
    assert page.index(">active<") < page.index(">coming<") < page.index("old 0")
    assert "There are more than these 100, the last made" in page
    assert "There are more than these 500 by name" in (await browser.get("/alerts/routes")).text
    governor.silences = governor.silences[-2:]
    assert "There are more" not in (await browser.get("/alerts/silences")).text
