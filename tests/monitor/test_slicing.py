"""The worst slices on real Kafka and PostgreSQL: counted by several workers' partitions, taken back when revised."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from contracts import Column, ModelSchema, OutcomeObserved, Service
from services.kit.service import application
from services.kit.settings import Settings
from services.kit.testing import eventually
from services.monitor.settings import MonitorSettings

from . import streams
from .saying import deployment, fresh, say_deployment
from .telling import outcome, tell
from .test_handlers import running

Speaker = Callable[[Service], Settings]
NOW = datetime.now(UTC)


def schema() -> ModelSchema:
    """A segment and a protected attribute."""
    marks: dict[str, dict[str, Any]] = {
        "colour": {"kind": "categorical", "categories": (0.0, 1.0, 2.0, 3.0), "segment": True},
        "b": {"kind": "categorical", "categories": (0.0, 1.0, 2.0), "protected": True},
    }
    plain = streams.schema()
    columns = tuple(Column.model_validate(c.model_dump() | marks.get(c.name, {})) for c in plain.columns)
    return plain.model_copy(update={"columns": columns})


def decided(endpoint: str, random: np.random.Generator, rows: int) -> list[OutcomeObserved]:
    """Right in nine of ten rows, and of one colour and group of b in four of ten; over three days."""
    made: list[OutcomeObserved] = []
    for place in range(rows):
        segments = {"colour": float(random.integers(0, 4)), "b": float(random.integers(0, 3))}
        wrong = random.random() < (0.6 if is_bad(segments) else 0.1)
        at = NOW - timedelta(days=place % 3)
        made.append(outcome(endpoint, float(wrong), 0.0, segments=segments, received_at=at))
    return made


def is_bad(segments: dict[str, Any]) -> bool:
    return segments == {"colour": 3.0, "b": 2.0}


class House:
    """The monitor's API as one of the installation's people."""

    def __init__(self, app: Any, settings: MonitorSettings, endpoint: str) -> None:
        self._app, self._tokens, self._endpoint = app, settings.home / "tokens", endpoint

    async def ask(self, path: str, who: str = "engineer") -> httpx.Response:
        token = (self._tokens / f"{who}.jwt").read_text().strip()
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://monitor") as client:
            path = f"/v1/monitors/{self._endpoint}/{path}"
            return await client.get(path, headers={"authorization": f"Bearer {token}"})

    async def search(self, rows: int, loss: float) -> dict[str, Any]:
        """Once so many rows are counted, with that loss over all."""

        async def there() -> dict[str, Any] | None:
            searches = (await self.ask("slices")).json().get("searches", [])
            told = [(each["window"]["rows"], each["loss"]) for each in searches]
            return searches[0] if told == [(rows, pytest.approx(loss))] else None

        return await eventually(there, within=40)


async def test_a_bad_slice_is_found_and_is_none_any_more_once_its_outcomes_are_revised(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint = fresh()
    events = decided(endpoint, np.random.default_rng(1), 1_500)
    bad = [event for event in events if is_bad(event.segments)]
    wrong = sum(bool(event.label) for event in events)
    wrong_there = sum(bool(event.label) for event in bad)
    await say_deployment(speaker("deployer"), deployment(endpoint, schema(), None))
    async with running(monitor_settings) as parts:
        house = House(application(parts), monitor_settings, endpoint)
        await tell(speaker("recorder"), events[:800])
        await tell(speaker("recorder"), events)  # the recorder was killed between saying and noting
        found = await house.search(1_500, wrong / 1_500)
        worst = found["slices"][0]
        assert worst["where"] == [{"segment": "b", "group": "2"}, {"segment": "colour", "group": "3"}]
        assert worst["loss"]["value"] == pytest.approx(wrong_there / len(bad)) and worst["loss"]["rows"] == len(bad)
        assert worst["rest"]["rows"] == 1_500 - len(bad) and worst["difference"]["interval"][0] > 0
        assert found["metric"] == "error rate" and found["segments"] == ["colour", "b"]
        assert (found["possible"], found["looked_at"]) == (4 + 3 + 4 * 3, 4 + 3 + 4 * 3)
        assert len((await house.ask("slices?limit=1&version=1")).json()["searches"][0]["slices"]) == 1

        said = datetime.now(UTC)
        mended = [e.model_copy(update={"label": 0.0, "observed_at": said}) for e in bad if e.label]
        await tell(speaker("recorder"), [*mended, *events])
        found = await house.search(1_500, (wrong - wrong_there) / 1_500)
        assert found["worse"] == 0 and found["slices"] == [] and found["looked_at"] == 19

        since = (NOW - timedelta(days=1)).isoformat().replace("+00:00", "Z")
        part = (await house.ask(f"slices?since={since}")).json()["searches"][0]
        assert part["window"]["rows"] == 1_000 and part["looked_at"] == 19

        # A segment has figures by group, and is none of fairness.
        figures = (await house.ask("performance?segment=colour")).json()
        assert figures["segments"] == ["colour", "b"]
        assert [each["group"] for each in figures["overall"][0]["groups"]] == ["0", "1", "2", "3"]
        fair = (await house.ask("fairness")).json()
        assert [each["attribute"] for each in fair["attributes"]] == ["b"]

        for query, status, named in [
            ("version=2", 404, "has no version 2"), ("version=0", 422, "version"), ("version=x", 422, "version"),
            ("limit=0", 422, "limit"), ("since=yesterday", 422, "since"), ("until=2026-01-01T00:00:00", 422, "until"),
        ]:  # fmt: skip
            answer = await house.ask(f"slices?{query}")
            assert answer.status_code == status and named in answer.text, answer.text
        assert (await house.ask("slices", "other-unit")).status_code == 404
        assert (await house.ask("slices", "application")).status_code == 403


async def test_without_segments_there_is_nothing_to_search(monitor_settings: MonitorSettings, speaker: Speaker) -> None:
    endpoint = fresh()
    await say_deployment(speaker("deployer"), deployment(endpoint, streams.schema(), None))
    async with running(monitor_settings) as parts:
        house = House(application(parts), monitor_settings, endpoint)
        await tell(speaker("recorder"), [outcome(endpoint, 1.0, 1.0)])

        async def labelled() -> bool:
            answer = await house.ask("performance")
            return answer.status_code == 200 and len(answer.json()["overall"]) == 1

        assert await eventually(labelled, within=40)
        assert (await house.ask("slices")).json()["searches"] == []
