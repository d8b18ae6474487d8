"""How an endpoint is watched, asked and told by HTTP: where a setting comes from, what it is, and who was first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from contracts import MonitorSettings
from services.kit.compacted import Change
from services.kit.context import Context, system, use
from services.kit.service import close
from services.monitor.settings import MonitorSettings as ServiceSettings
from services.monitor.store import seasons

from . import streams
from .saying import deployment
from .test_trial import House

PACKAGED = MonitorSettings(window_s=100.0, budget_rows=1_000_000, tolerance=0.2)


@pytest.fixture
async def house(monitor_settings: ServiceSettings) -> AsyncIterator[House]:
    made = House(monitor_settings)
    await said(made, PACKAGED)
    yield made
    await close(made.parts)


async def said(house: House, settings: MonitorSettings, revision: int = 1) -> None:
    """A deployment of a package that says these settings."""
    event = deployment(house.endpoint, streams.schema(), None, revision=revision, monitor=settings)
    await house.desired.learn(Change(house.endpoint, event, None, 0))


@asynccontextmanager
async def asking(house: House, who: str = "engineer") -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client of somebody, and the path of the monitor."""
    token = (house.settings.home / "tokens" / f"{who}.jwt").read_text().strip()
    transport = httpx.ASGITransport(app=house.app)
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://monitor", headers=headers) as http:
        yield http, f"/v1/monitors/{house.endpoint}"


async def test_each_setting_says_where_it_comes_from(house: House) -> None:
    async with asking(house) as (http, at):
        told = (await http.get(at)).json()["sources"]
        assert (told["tolerance"], told["window_s"], told["budget_rows"]) == ("package", "package", "default")
        told = (await http.put(at, json={"budget_rows": 5_000, "tolerance": 0.3})).json()
        assert (told["sources"]["budget_rows"], told["sources"]["tolerance"]) == ("set", "set")
        assert told["sources"]["season_s"] == "default" and told["season_s"] is None
        with use(Context(system("monitor"))):
            async with house.db.transaction() as tx:
                await seasons.learn(tx.session, house.endpoint, 86_400.0)
        told = (await http.get(at)).json()
        assert (told["sources"]["season_s"], told["season_s"], told["settings"].get("season_s")) == (
            "learned", 86_400.0, None
        )  # fmt: skip
        told = (await http.put(at, json={"season_s": 0})).json()
        assert (told["sources"]["season_s"], told["season_s"]) == ("set", None)


async def test_what_was_set_is_given_back_to_the_deployments(house: House) -> None:
    async with asking(house) as (http, at):
        await http.put(at, json={"tolerance": 0.3, "favourable": "b"})
        told = (await http.put(at, json={"tolerance": None})).json()
        assert (told["settings"]["tolerance"], told["sources"]["tolerance"]) == (0.2, "package")
        assert (told["settings"]["favourable"], told["overridden"]) == ("b", True)
        await said(house, PACKAGED.model_copy(update={"tolerance": 0.5}), revision=2)
        assert (await http.get(at)).json()["settings"]["tolerance"] == 0.5
        told = (await http.put(at, json={"favourable": None})).json()
        assert (told["settings"].get("favourable"), told["overridden"]) == (None, False)


async def test_a_change_on_top_of_another_ones_is_refused_not_overwritten(house: House) -> None:
    async with asking(house) as (http, at):
        seen = (await http.get(at)).headers["etag"]
        mine = await http.put(at, json={"tolerance": 0.3}, headers={"if-match": seen})
        assert mine.status_code == 200 and mine.headers["etag"] not in ("", seen)
        late = await http.put(at, json={"tolerance": 0.4}, headers={"if-match": seen})
        assert late.status_code == 412 and "was changed at" in late.json()["detail"]
        assert (await http.get(at)).json()["settings"]["tolerance"] == 0.3
        held = f'"other", {mine.headers["etag"]}'
        assert (await http.put(at, json={"tolerance": 0.3}, headers={"if-match": held})).status_code == 200
        assert (await http.put(at, json={"tolerance": 0.3}, headers={"if-match": "*"})).status_code == 200
        again = (await http.get(at)).headers["etag"]
        await said(house, PACKAGED, revision=2)
        deployed = await http.put(at, json={"tolerance": 0.4}, headers={"if-match": again})
        assert deployed.status_code == 412, "a deployment changes them, too"


async def test_what_is_only_checked_is_refused_alike_and_changes_nothing(house: House) -> None:
    only = {"validate_only": "true"}
    async with asking(house) as (http, at):
        before = await http.get(at)
        told = (await http.put(at, json={"tolerance": 0.3}, params=only)).json()
        assert (told["settings"]["tolerance"], told["sources"]["tolerance"]) == (0.3, "set")
        refused = await http.put(at, json={"season_s": 600}, params=only)
        assert refused.status_code == 422 and refused.json()["field"] == "season_s"
        after = await http.get(at)
        assert after.headers["etag"] == before.headers["etag"] and not after.json()["overridden"]
        stale = await http.put(at, json={"tolerance": 0.3}, params=only, headers={"if-match": '"old"'})
        assert stale.status_code == 412
    async with asking(house, "compliance") as (http, at):
        assert (await http.put(at, json={"tolerance": 0.3}, params=only)).status_code == 403


@pytest.mark.parametrize(
    ("body", "field"),
    [({"kpis": {"profit": "label +"}}, "kpis.profit"), ({"kpis": {"profit": "lable"}}, "kpis.profit"),
     ({"value_matrix": {"true_postive": 1.0}}, "value_matrix.true_postive"), ({"tolerance": 11}, "tolerance"),
     ({"detectors": ["adwin", "none"]}, "detectors.1"), ({"detectors": ["adwin", "adwin"]}, "detectors"),
     ({"payload_sample": 0.5}, "payload_sample"), ({}, "body")],
)  # fmt: skip
async def test_a_setting_that_cannot_be_is_refused_by_its_name(house: House, body: dict[str, Any], field: str) -> None:
    async with asking(house) as (http, at):
        refused = await http.put(at, json=body)
    assert (refused.status_code, refused.json()["field"]) == (422, field)


async def test_rules_are_set_refused_by_name_and_told(house: House) -> None:
    async with asking(house) as (http, at):
        given = {"limit": {"must": "a <= 3.0", "severity": "critical"}, "choice": {"must": "prediction in [0, 1]"}}
        held = await http.put(at, json={"rules": given})
        assert held.status_code == 200 and held.json()["sources"]["rules"] == "set", held.text
        told = (await http.get(f"{at}/rules")).json()
        assert [(each["name"], each["severity"], each["tolerance"]) for each in told["rules"]] == [
            ("limit", "critical", 0.0), ("choice", "warning", 0.0)
        ]  # fmt: skip
        assert (told["windows"], told["rows"], told["rules"][0]["share"], told["rules"][0]["alarmed"]) == (
            0,
            0,
            None,
            False,
        )
        for bad, field in (
            ({"limit": {"must": "amount <= 3.0"}}, "rules.limit.must"),
            ({"limit": {"must": "a * 2 > 3"}}, "rules.limit.must"),
            ({"limit": {"must": "a > 1.0", "tolerance": 1}}, "rules.limit.tolerance"),
            ({"No": {"must": "a > 1.0"}}, "rules.No"),
        ):
            refused = await http.put(at, json={"rules": bad})
            assert refused.status_code == 422 and refused.json()["field"].startswith(field), refused.text
        assert (await http.get(f"{at}/rules")).json() == told
        assert (await http.put(at, json={"rules": None})).json()["settings"].get("rules") is None
    async with asking(house, "other-unit") as (http, at):
        assert (await http.get(f"{at}/rules")).status_code == 404
