"""The recorder on real Kafka and PostgreSQL: every decision once, found again, joined to what followed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from prometheus_client import REGISTRY

from contracts import ModelSchema, OutcomeObserved, OutcomeReported, Service
from services.kit.letters import Letter
from services.kit.objects import Objects
from services.kit.outbox import Relay
from services.kit.payloads import Payloads
from services.kit.producer import Producer
from services.kit.service import Parts, close
from services.kit.service import application as http_application
from services.kit.settings import Settings
from services.kit.signing import digest_of
from services.kit.testing import eventually, expect_events
from services.kit.testing import running as beside
from services.recorder.app import build
from services.recorder.settings import RecorderSettings
from tests.monitor import streams
from tests.monitor.saying import (
    as_batch,
    buried,
    deployment,
    fresh,
    logged,
    referring,
    replay,
    say_deployment,
    say_logged,
)

Speaker = Callable[[Service], Settings]


class Client:
    """The recorder's API as one of the installation's people."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._app = http_application(parts)
        self._tokens = settings.home / "tokens"

    async def ask(
        self, method: str, path: str, who: str = "engineer", token: str = "", **options: Any
    ) -> httpx.Response:
        token = token or (self._tokens / f"{who}.jwt").read_text().strip()
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://recorder") as client:
            return await client.request(method, path, headers={"authorization": f"Bearer {token}"}, **options)

    async def get(self, path: str, who: str = "engineer") -> httpx.Response:
        return await self.ask("GET", path, who)


@asynccontextmanager
async def running(settings: RecorderSettings) -> AsyncIterator[Client]:
    parts = build(settings)
    assert parts.db
    relay = Relay(settings, parts.db, parts.progress)
    try:
        async with beside(*(job() for job in parts.jobs), relay.run()):
            yield Client(parts, settings)
    finally:
        await close(parts)


def files(settings: RecorderSettings, endpoint: str) -> pa.Table:
    """What a stranger reads from the folder as it lies."""
    found = ds.dataset(settings.inferences, partitioning="hive")
    return found.to_table(filter=ds.field("endpoint") == endpoint) if "endpoint" in found.schema.names else pa.table({})


def outcome_rows(settings: RecorderSettings, endpoint: str) -> list[dict[str, Any]]:
    """The same of outcomes, in order."""
    if not settings.outcomes.exists():
        return []
    rows = ds.dataset(settings.outcomes, partitioning="hive").to_table()
    mine = [row for row in rows.to_pylist() if row["endpoint"] == endpoint]
    return sorted(mine, key=lambda row: (row["observed_at"], row["revision"]))


async def found(client: Client, id: str, who: str = "engineer") -> dict[str, Any] | None:
    answer = await client.get(f"/v1/decisions/{id}", who)
    return answer.json() if answer.status_code == 200 else None


async def report(settings: Settings, *outcomes: dict[str, Any] | bytes, key: str = "key", unit: str = "") -> None:
    values = [outcome if isinstance(outcome, bytes) else orjson.dumps(outcome) for outcome in outcomes]
    about = [("ce_unit", unit.encode())] if unit else []
    async with Producer(settings) as producer:
        await producer.send_all([(OutcomeReported.topic.name, key.encode(), value, about) for value in values])


def records(endpoint: str, count: int, rows: int = 1, **options: Any) -> list[dict[str, Any]]:
    world = streams.World(np.random.default_rng(1))
    at = datetime.now(UTC) - timedelta(seconds=5)
    return [
        logged(endpoint, world.rows(rows), n, at + timedelta(milliseconds=n), entity=f"person-{n % 3}", **options)
        for n in range(1, count + 1)
    ]


async def served(speaker: Speaker, schema: ModelSchema | None = None, **options: Any) -> str:
    endpoint = fresh()
    await say_deployment(speaker("deployer"), deployment(endpoint, schema or streams.schema(), None, **options))
    return endpoint


async def test_every_inference_is_recorded_once_and_found_by_its_id(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = await served(speaker)
    said = records(endpoint, 60, rows=3)
    said[20]["params"] = {"threshold": 1.0}
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), said)
        await say_logged(speaker("scorer"), said[10:40])
        assert await eventually(lambda: files(recorder_settings, endpoint).num_rows == 180, within=30)
        whole = await found(client, said[20]["inference_id"])
    assert whole is not None and whole["endpoint"] == endpoint and whole["rows"] == 3
    assert whole["params"] == {"threshold": 1.0}
    assert whole["entity"] == said[20]["entity"] and whole["variant"] == "champion"
    data = said[20]["request"]["inputs"][0]["data"]
    assert [row["features"]["a"] for row in whole["decided"]] == data[::5]
    assert [row["prediction"] for row in whole["decided"]] == said[20]["response"]["outputs"][0]["data"]
    rows = files(recorder_settings, endpoint)
    keys = set(zip(rows["inference_id"].to_pylist(), rows["row"].to_pylist(), strict=True))
    assert len(keys) == 180


async def test_what_a_shadow_would_have_decided_is_kept_and_is_no_decision(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = await served(speaker)
    real, copy = records(endpoint, 2, rows=2)
    copy |= {"variant": "challenger", "shadow_of": real["inference_id"]}
    nothing = {"request": {}, "response": {}, "sampled": False, "failed": "ModelFailed", "writer": "a-failing-shadow"}
    failed = records(endpoint, 3, rows=2)[2] | nothing | {"shadow_of": real["inference_id"]}
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), [failed, real, copy])
        assert await eventually(lambda: files(recorder_settings, endpoint).num_rows == 4, within=30)
        listed = (await client.get(f"/v1/decisions?endpoint={endpoint}")).json()["items"]
        assert [(one["inference_id"], one["shadow_of"]) for one in listed] == [(real["inference_id"], None)]
        whole = await found(client, copy["inference_id"])
        assert whole is not None and whole["shadow_of"] == real["inference_id"]
        frozen = await client.ask("POST", "/v1/snapshots", "data-scientist",
                                  json={"endpoint": endpoint, "model": real["model"]})  # fmt: skip
        assert frozen.json()["rows"] == 2
    rows = files(recorder_settings, endpoint)
    kept = zip(rows["inference_id"].to_pylist(), rows["shadow_of"].to_pylist(), strict=True)
    assert set(kept) == {(real["inference_id"], None), (copy["inference_id"], real["inference_id"])}


async def test_what_became_true_of_a_row_is_true_for_its_shadows_however_late_they_are_recorded(
    recorder_settings: RecorderSettings, speaker: Speaker, operator: Settings
) -> None:
    endpoint = await served(speaker)
    real, soon, late = records(endpoint, 3, rows=2)
    soon |= {"variant": "challenger", "shadow_of": real["inference_id"]}
    soon["response"]["outputs"][0]["data"] = [1 - each for each in real["response"]["outputs"][0]["data"]]
    late |= {"variant": "other", "shadow_of": real["inference_id"]}

    async def outcomes(client: Client, of: dict[str, Any]) -> list[tuple[Any, ...]]:
        whole = await found(client, of["inference_id"])
        return [(o["row"], o["label"], o["value"]) for o in whole["outcomes"]] if whole else []

    async def say(client: Client, label: float) -> None:
        body = {"outcomes": [{"inference_id": real["inference_id"], "row": 1, "label": label, "value": 7.0}]}
        assert (await client.ask("POST", "/v1/outcomes", json=body)).status_code == 202

    async with running(recorder_settings) as client:
        about = lambda event: event.endpoint == endpoint and event.shadow_of is not None  # noqa: E731
        async with expect_events(operator, OutcomeObserved, within=30, where=about) as seen:
            await say_logged(speaker("scorer"), [real, soon])
            assert await eventually(lambda: files(recorder_settings, endpoint).num_rows == 4, within=30)
            await say(client, 1.0)
        assert await eventually(lambda: outcomes(client, soon), within=30) == [(1, 1.0, None)]
        assert await outcomes(client, real) == [(1, 1.0, 7.0)]
        await say(client, 0.0)  # it was a mistake

        async def corrected() -> bool:
            return await outcomes(client, soon) == [(1, 0.0, None)]

        assert await eventually(corrected, within=30)
        await say_logged(speaker("scorer"), [late])
        assert await eventually(lambda: found(client, late["inference_id"]), within=30)
    async with running(recorder_settings) as client:
        assert await eventually(lambda: outcomes(client, late), within=30) == [(1, 0.0, None)]
    (event,) = seen.of(OutcomeObserved)
    assert (event.inference_id, event.variant) == (soon["inference_id"], "challenger")
    assert (event.shadow_of, event.row, event.label, event.value) == (real["inference_id"], 1, 1.0, None)
    told = real["response"]["outputs"][0]["data"][1]
    assert event.answered and (event.answered.version, event.answered.variant) == (real["version"], real["variant"])
    assert event.answered.prediction == told != event.prediction


async def test_a_dead_letter_that_is_replayed_after_its_cause_is_mended_is_recorded_once(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = await served(speaker)
    whole, last = records(endpoint, 2, rows=3)
    request = orjson.dumps(whole["request"])
    early = referring(whole, digest_of(request))

    async def letters() -> list[Letter]:
        ids = [early["inference_id"], last["inference_id"]]
        return await buried(recorder_settings, "recorder", "inference.logged", ids)

    async with running(recorder_settings) as client:
        # A later number of the same writer is seen before the replay.
        await say_logged(speaker("scorer"), [early, last | {"inference_id": early["inference_id"] + "-2"}])
        (letter,) = await eventually(letters, within=30)
        await Objects(recorder_settings).put(request)
        await replay(recorder_settings, [letter])
        assert await eventually(lambda: found(client, early["inference_id"]), within=30)
        before = _repeats()
        await replay(recorder_settings, [letter])
        assert await eventually(lambda: _repeats() > before, within=30)
        await eventually(lambda: files(recorder_settings, endpoint).num_rows >= 6, within=10)
    ids = files(recorder_settings, endpoint)["inference_id"].to_pylist()
    assert len(ids) == 6 and ids.count(early["inference_id"]) == 3


async def test_a_batch_of_the_log_that_refers_to_more_than_memory_holds_is_recorded_in_parts(
    recorder_settings: RecorderSettings, speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 500 * 5 * 8 + 500 * 2 * 8
    monkeypatch.setattr(Payloads, "AT_ONCE", 4 * one)
    endpoint = await served(speaker)
    said = records(endpoint, 40, rows=500)
    chunks = await as_batch(Objects(recorder_settings), said, ["a", "b", "c", "d", "e"])
    await say_logged(speaker("scorer"), chunks)
    async with running(recorder_settings) as client:
        assert await eventually(lambda: files(recorder_settings, endpoint).num_rows == 20_000, within=60)
        whole = await found(client, said[20]["inference_id"])
    assert whole is not None
    data = said[20]["request"]["inputs"][0]["data"]
    assert [row["features"]["a"] for row in whole["decided"]] == data[::5]
    assert [row["prediction"] for row in whole["decided"]] == said[20]["response"]["outputs"][0]["data"]
    written = [path for path in recorder_settings.inferences.rglob("*.parquet") if endpoint in str(path)]
    assert len(written) >= 10 and max(pq.read_metadata(path).num_rows for path in written) <= 2_000
    rows = files(recorder_settings, endpoint)
    assert len(set(zip(rows["inference_id"].to_pylist(), rows["row"].to_pylist(), strict=True))) == 20_000


async def test_a_decision_without_a_logged_payload_is_found_and_no_retraining_learns_from_it(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = await served(speaker)
    said = records(endpoint, 6, rows=2)
    for record in said[::2]:
        record |= {"sampled": False, "request": {}, "response": {}}
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), said)
        assert await eventually(lambda: files(recorder_settings, endpoint).num_rows == 12, within=30)
        bare, whole = [await found(client, record["inference_id"]) for record in said[:2]]
        asked = {"endpoint": endpoint, "model": "census-employment"}
        made = (await client.ask("POST", "/v1/snapshots", "data-scientist", json=asked)).json()
    assert bare and whole and (bare["sampled"], whole["sampled"]) == (False, True)
    assert [(row["features"], row["prediction"]) for row in bare["decided"]] == [({}, None)] * 2
    assert (bare["rows"], bare["entity"], bare["latency_ms"]) == (2, said[0]["entity"], 0.8)
    assert all(row["features"] for row in whole["decided"])
    assert made["rows"] == 6


async def test_of_what_is_not_known_no_outcome_says_what_was_decided(
    recorder_settings: RecorderSettings, speaker: Speaker, operator: Settings
) -> None:
    endpoint = await served(speaker)
    whole, bare, unread = records(endpoint, 3)
    bare |= {"sampled": False, "request": {}, "response": {}}
    unread |= {"response": {"outputs": []}}
    said = [whole, bare, unread]
    body = {"outcomes": [{"inference_id": record["inference_id"], "label": 1.0} for record in said]}
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), said)
        assert await eventually(lambda: files(recorder_settings, endpoint).num_rows == 3, within=30)
        mine = lambda event: event.endpoint == endpoint  # noqa: E731
        async with expect_events(operator, OutcomeObserved, within=30, where=mine, times=3) as seen:
            assert (await client.ask("POST", "/v1/outcomes", json=body)).status_code == 202
    told = {event.inference_id: event.prediction for event in seen.of(OutcomeObserved)}
    assert told.pop(whole["inference_id"]) in (0.0, 1.0)
    assert told == {bare["inference_id"]: None, unread["inference_id"]: None}


async def test_a_decision_of_no_rows_is_told_so(recorder_settings: RecorderSettings, speaker: Speaker) -> None:
    endpoint = await served(speaker)
    (empty,), (last,) = records(endpoint, 1, rows=0), records(endpoint, 1)
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), [empty | {"writer": "another"}, last])
        assert await eventually(lambda: found(client, last["inference_id"]), within=30)

        async def told() -> bool:
            answer = await client.get(f"/v1/decisions/{empty['inference_id']}")
            return answer.status_code == 404 and "no rows" in answer.json()["detail"]

        assert await eventually(told, within=30)


async def test_what_no_schema_explains_is_kept_once_as_the_log_has_it(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = fresh()  # no deployment names it
    inline, referred = records(endpoint, 2, rows=300)
    [referred] = await as_batch(Objects(recorder_settings), [referred], ["a", "b", "c", "d", "e"])
    await say_logged(speaker("scorer"), [inline, referred])
    async with running(recorder_settings):
        assert await eventually(lambda: files(recorder_settings, endpoint).num_rows == 600, within=60)
    rows = files(recorder_settings, endpoint).to_pylist()
    kept = {row["inference_id"]: orjson.loads(row["unread"]) for row in rows if row["unread"] is not None}
    assert kept == {r["inference_id"]: {n: r[n] for n in ("request", "response")} for r in (inline, referred)}
    assert all(row["unread"] is None for row in rows if row["row"] > 0)


def _repeats() -> float:
    return REGISTRY.get_sample_value("fairlead_recorder_repeats_total") or 0.0


async def test_decisions_are_listed_by_whom_they_concern_and_only_in_the_callers_units(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = await served(speaker)
    said = records(endpoint, 9)
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), said)
        for record in said:  # they lie in several partitions
            assert await eventually(lambda id=record["inference_id"]: found(client, id), within=30)
        path = f"/v1/decisions?endpoint={endpoint}&entity=person-1&limit=2"
        first = (await client.get(path)).json()
        second = (await client.get(f"{path}&cursor={first['next']}")).json()
        listed = [item["inference_id"] for item in first["items"] + second["items"]]
        assert listed == [r["inference_id"] for r in reversed(said) if r["entity"] == "person-1"]
        assert second["next"] is None
        assert (await client.get(f"/v1/decisions?endpoint={endpoint}", "other-unit")).json()["items"] == []
        assert await found(client, said[0]["inference_id"], "other-unit") is None
        assert (await client.get("/v1/decisions?from=yesterday")).status_code == 422


async def test_a_list_says_why_each_was_decided_so_and_what_followed(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = await served(speaker)
    said = records(endpoint, 4, rows=2)
    said[1] |= {"variant": "fallback", "instead_of": "champion"}
    said[2] |= {"version": said[2]["version"] + 1, "mode": "batch"}
    ids = [record["inference_id"] for record in said]
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), said)
        for id in ids:
            assert await eventually(lambda id=id: found(client, id), within=30)
        outcomes = [{"inference_id": ids[0], "row": row, "label": "late", "value": 2.5} for row in (0, 1)]
        await client.ask("POST", "/v1/outcomes", json={"outcomes": [*outcomes, outcomes[0] | {"inference_id": ids[3]}]})

        async def listed(**asked: Any) -> list[int]:
            answer = await client.ask("GET", "/v1/decisions", params={"endpoint": endpoint} | asked)
            assert answer.status_code == 200, answer.text
            return [ids.index(item["inference_id"]) for item in answer.json()["items"]]

        async def known() -> bool:
            return await listed(outcome="known") == [3, 0]

        assert await eventually(known, within=30)
        assert await listed(outcome="unknown") == [2, 1]
        assert await listed(label="late", limit=1) == [3] and await listed(label="1") == []
        assert await listed(version=said[2]["version"]) == [2] == await listed(mode="batch")
        assert await listed(variant="fallback") == [1]
        page = await client.get(f"/v1/decisions?endpoint={endpoint}")
        first, second = page.json()["items"][3], page.json()["items"][2]
        assert (first["observed"], first["value"], len(first["outcomes"])) == (2, 5.0, 2)
        assert (second["variant"], second["instead_of"], second["observed"]) == ("fallback", "champion", 0)
        assert (await found(client, ids[1]) or {})["instead_of"] == "champion"
        assert (await client.get("/v1/decisions?version=0")).status_code == 422


async def test_who_is_erased_is_not_recorded_from_before_and_is_from_then_on(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = await served(speaker)
    somebody = f"somebody-at-{endpoint}"  # the log is shared with whoever else is at work
    said = records(endpoint, 9, rows=2)
    for record in said[::3]:
        record |= {"entity": somebody}
    late, after, mate = records(endpoint, 12)[9:]
    late |= {"entity": somebody}
    after |= {"entity": somebody, "received_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    asked = {"entity": somebody, "reason": "a request under article 17"}
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), said)
        assert await eventually(lambda: files(recorder_settings, endpoint).num_rows == 18, within=30)
        assert (await client.ask("POST", "/v1/erasures", "engineer", json=asked)).status_code == 403
        naming = asked | {"reason": f"{somebody.upper()} wants it"}
        assert (await client.ask("POST", "/v1/erasures", "compliance", json=naming)).json()["field"] == "reason"
        answer = await client.ask("POST", "/v1/erasures", "compliance", json=asked)
        assert answer.status_code == 202 and somebody not in answer.text

        async def done() -> dict[str, Any] | None:
            told = (await client.get(answer.headers["location"], "compliance")).json()
            return told if told["state"] == "done" else None

        told = await eventually(done, within=30)
        assert (told["decisions"], told["left"], told["late"]) == (3, 0, 0)
        await say_logged(speaker("scorer"), [late, after, mate])
        for record in (after, mate):
            assert await eventually(lambda id=record["inference_id"]: found(client, id), within=30)

        async def counted() -> bool:
            return (await client.get(answer.headers["location"], "compliance")).json()["late"] == 1

        assert await eventually(counted, within=30)
        assert await found(client, late["inference_id"]) is None
        items = (await client.get(f"/v1/decisions?endpoint={endpoint}&entity={somebody}")).json()["items"]
        assert [item["inference_id"] for item in items] == [after["inference_id"]]
    entities = files(recorder_settings, endpoint)["entity"].to_pylist()
    assert (entities.count(somebody), len(entities)) == (1, 14)


async def test_outcomes_are_joined_however_early_and_a_repeat_has_one_effect(
    recorder_settings: RecorderSettings, speaker: Speaker, application: Settings, operator: Settings
) -> None:
    marks = {"a": {"segment": True}, "colour": {"protected": True}}
    columns = tuple(c.model_copy(update=marks.get(c.name, {})) for c in streams.schema().columns)
    schema = streams.schema().model_copy(update={"columns": columns})
    endpoint = await served(speaker, schema)
    said = records(endpoint, 4, rows=2)
    ids = [record["inference_id"] for record in said]
    early = [{"inference_id": ids[0], "row": 1, "label": 1}, {"inference_id": ids[1], "label": "yes", "value": 2.5}]
    async with running(recorder_settings) as client:
        mine = lambda event: event.endpoint == endpoint  # noqa: E731
        async with expect_events(operator, OutcomeObserved, within=30, where=mine, times=3) as seen:
            await report(application, *early, *early)
            await say_logged(speaker("scorer"), said)
            assert await eventually(lambda: found(client, ids[3]), within=30)
            body = {"outcomes": [{"inference_id": ids[2], "row": 0, "label": 0.0}]}
            assert (await client.ask("POST", "/v1/outcomes", json=body)).json() == {"accepted": 1, "new": 1}
            assert (await client.ask("POST", "/v1/outcomes", json=body)).json() == {"accepted": 1, "new": 0}

            async def followed() -> int:
                each = [await found(client, id) for id in ids]
                return sum(len(decision["outcomes"]) for decision in each if decision) == 3

            assert await eventually(followed, within=30)
        second = await found(client, ids[1])
    told = [(event.inference_id, event.row, event.label) for event in seen.of(OutcomeObserved)]
    assert len(told) == 3 and set(told) == {(ids[0], 1, 1.0), (ids[1], 0, "yes"), (ids[2], 0, 0.0)}
    assert all(event.prediction in (0.0, 1.0) for event in seen.of(OutcomeObserved))
    decided = {id: record["request"]["inputs"][0]["data"] for id, record in zip(ids, said, strict=True)}
    for event in seen.of(OutcomeObserved):  # with the groups of what is declared, and nothing else of the row
        row = decided[event.inference_id][5 * event.row :]
        assert event.segments == {"a": row[0], "colour": row[4]}
    assert second is not None and second["outcomes"][0]["value"] == 2.5


async def test_what_was_observed_is_written_with_each_correction_however_early_it_was_said(
    recorder_settings: RecorderSettings, speaker: Speaker, application: Settings
) -> None:
    endpoint = await served(speaker)
    said = records(endpoint, 2, rows=2)
    early, later = [record["inference_id"] for record in said]
    async with running(recorder_settings) as client:
        await report(application, {"inference_id": early, "row": 1, "label": "yes"})
        await say_logged(speaker("scorer"), said)
        assert await eventually(lambda: len(outcome_rows(recorder_settings, endpoint)) == 1, within=30)
        for label in (1.0, 1.0, 0.0):
            body = {"outcomes": [{"inference_id": later, "label": label, "value": 2.5}]}
            assert (await client.ask("POST", "/v1/outcomes", json=body)).status_code == 202
            assert await eventually(
                lambda label=label: outcome_rows(recorder_settings, endpoint)[-1]["label"] == label, within=30
            )
    rows = outcome_rows(recorder_settings, endpoint)
    told = [(r["inference_id"], r["row"], r["revision"], r["label"], r["label_text"], r["value"]) for r in rows]
    assert told == [(early, 1, 1, None, "yes", None), (later, 0, 1, 1.0, None, 2.5), (later, 0, 2, 0.0, None, 2.5)]
    for row, record in zip(rows, [said[0], said[1], said[1]], strict=True):
        assert (row["entity"], row["unit"], row["version"]) == (record["entity"], "retail", record["version"])
        assert row["received_at"] == datetime.fromisoformat(record["received_at"])
        assert row["received_at"] <= row["observed_at"] and row["reported_at"] <= row["observed_at"]


async def test_what_is_no_outcome_is_a_dead_letter_with_its_reason(
    recorder_settings: RecorderSettings, speaker: Speaker, application: Settings
) -> None:
    endpoint = await served(speaker)
    (said,) = records(endpoint, 1)
    good = {"inference_id": said["inference_id"], "label": 1}
    wrong: list[dict[str, Any] | bytes] = [
        b"no json", {"row": 0}, {"inference_id": "a", "row": "7"}, good | {"row": 5}, {"inference_id": "b"},
        good | {"label": "a\0b"},
    ]  # fmt: skip
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), [said])
        await report(application, *wrong, good, key=said["inference_id"])

        async def followed() -> bool:
            decision = await found(client, said["inference_id"])
            return bool(decision and decision["outcomes"])

        assert await eventually(followed, within=30)
        assert (await client.get("/v1/outcomes/unmet")).status_code == 403
        assert isinstance((await client.get("/v1/outcomes/unmet", "admin")).json(), list)

        async def reasons() -> list[str] | None:
            letters = await buried(recorder_settings, "recorder", "outcome.reported", [said["inference_id"]])
            told = [letter.record.header("__connect.errors.exception.message") for letter in letters]
            return told if len(told) >= len(wrong) else None

        told = await eventually(reasons, within=30)
    assert len(told) == len(wrong)
    for part in ("not JSON", "inference_id", "row: Input should be a valid integer", "has 1 rows", "label", "NUL"):
        assert any(part in reason for reason in told), (part, told)


async def test_a_lost_file_costs_its_own_outcomes_and_a_replay_joins_them_once_it_is_back(
    recorder_settings: RecorderSettings, speaker: Speaker, application: Settings
) -> None:
    lost, whole = [await served(speaker) for _ in range(2)]
    (of_lost,), (of_whole,) = records(lost, 1), records(whole, 1)
    ids = [of_lost["inference_id"], of_whole["inference_id"]]
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), [of_lost, of_whole])
        assert await eventually(lambda: files(recorder_settings, lost).num_rows == 1, within=30)
        assert await eventually(lambda: found(client, ids[1]), within=30)
        (place,) = (recorder_settings.inferences / f"endpoint={lost}").rglob("*.parquet")
        aside = place.rename(recorder_settings.home / "aside")
        await report(application, *({"inference_id": id, "label": 1.0} for id in ids))

        async def followed(id: str) -> bool:
            decision = await found(client, id)
            return bool(decision and decision["outcomes"])

        assert await eventually(lambda: followed(ids[1]), within=30)
        letters = lambda: buried(recorder_settings, "recorder", "outcome.reported", ids)  # noqa: E731
        (letter,) = await eventually(letters, within=30)
        assert "lost" in letter.record.header("__connect.errors.exception.message")
        gone = await client.get(f"/v1/decisions/{ids[0]}")
        assert gone.status_code == 404 and "lost" in gone.json()["detail"]
        whole_file = aside.read_bytes()
        place.write_bytes(whole_file[:4] + b"\xff" * (len(whole_file) // 2) + whole_file[4 + len(whole_file) // 2 :])
        assert (await client.get(f"/v1/decisions/{ids[0]}")).status_code == 404
        aside.rename(place)
        await replay(recorder_settings, [letter])
        assert await eventually(lambda: followed(ids[0]), within=30)


async def test_over_the_topic_outcomes_are_those_of_the_units_that_may_write_it(
    recorder_settings: RecorderSettings, speaker: Speaker, application: Settings
) -> None:
    endpoint, elsewhere = await served(speaker), await served(speaker, unit="wealth")
    (said,), (theirs,) = records(endpoint, 1), records(elsewhere, 1, unit="wealth")
    ids = [said["inference_id"], theirs["inference_id"]]
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), [said])
        await say_logged(speaker("scorer"), [theirs])
        assert await eventually(lambda: found(client, ids[0]), within=30)
        assert await eventually(lambda: found(client, ids[1], "other-unit"), within=30)
        await report(application, {"inference_id": ids[0], "label": 0.0}, key=ids[0], unit="wealth")
        await report(application, {"inference_id": ids[1], "label": 0.0}, key=ids[1])
        await report(application, {"inference_id": ids[0], "label": 1.0}, key=ids[0], unit="retail")

        async def letters() -> list[Any] | None:
            told = await buried(recorder_settings, "recorder", "outcome.reported", ids)
            return told if len(told) == 2 else None

        told = [each.record.header("__connect.errors.exception.message") for each in await eventually(letters, 30)]
        assert any("ce_unit" in reason for reason in told) and any("no such inference" in reason for reason in told)

        async def outcomes() -> list[Any]:
            own = await found(client, ids[0])
            return [outcome["label"] for outcome in own["outcomes"]] if own else []

        assert await eventually(outcomes, 30) == [1.0]
        foreign = await found(client, ids[1], "other-unit")
        assert foreign and not foreign["outcomes"]


async def test_nobody_reports_outcomes_for_another_units_decisions(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = await served(speaker)
    (said,) = records(endpoint, 1)
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), [said])
        assert await eventually(lambda: found(client, said["inference_id"]), within=30)
        body = {"outcomes": [{"inference_id": said["inference_id"], "label": 1.0}]}
        foreign = await client.ask("POST", "/v1/outcomes", "other-unit", json=body)
        assert foreign.json() == {"accepted": 1, "new": 1}, "it is not told whether the id exists"
        own = body["outcomes"][0] | {"label": 0.0}
        await client.ask("POST", "/v1/outcomes", json={"outcomes": [own]})

        async def followed() -> bool:
            decision = await found(client, said["inference_id"])
            return bool(decision and [o["label"] for o in decision["outcomes"]] == [0.0])

        assert await eventually(followed, within=30)
        again = await client.ask("POST", "/v1/outcomes", "other-unit", json=body)
        assert again.json()["new"] == 0
        assert await followed(), "an outcome that stands is not overwritten from outside"
        invalid = {"outcomes": [{"inference_id": "a", "label": 1.0}, {"inference_id": "b"}]}
        refused = await client.ask("POST", "/v1/outcomes", json=invalid)
        assert refused.status_code == 422 and refused.json()["field"] == "outcomes.1.label"
        beyond = {"outcomes": [own, own | {"row": 50}]}
        refused = await client.ask("POST", "/v1/outcomes", json=beyond)
        assert refused.status_code == 422 and refused.json()["field"] == "outcomes.1.row"
        silent = await client.ask("POST", "/v1/outcomes", "other-unit", json={"outcomes": [own | {"row": 50}]})
        assert silent.status_code == 202, "it is not told how many rows another unit's inference has"


async def test_a_snapshot_holds_the_models_columns_and_the_labels_that_are_known(
    recorder_settings: RecorderSettings, speaker: Speaker
) -> None:
    endpoint = await served(speaker)
    said = records(endpoint, 30, rows=2)
    async with running(recorder_settings) as client:
        await say_logged(speaker("scorer"), said)
        assert await eventually(lambda: files(recorder_settings, endpoint).num_rows == 60, within=30)
        outcomes = [{"inference_id": record["inference_id"], "row": 1, "label": 1.0} for record in said[:20]]
        await client.ask("POST", "/v1/outcomes", json={"outcomes": outcomes})

        async def made() -> dict[str, Any] | None:
            body = {"endpoint": endpoint, "model": "census-employment"}
            answer = await client.ask("POST", "/v1/snapshots", "data-scientist", json=body)
            return answer.json() if answer.status_code == 201 and answer.json()["labelled"] == 20 else None

        snapshot = await eventually(made, within=30, every=0.5)
        none = {"endpoint": endpoint, "model": "census-employment", "since": "2099-01-01T00:00:00+00:00"}
        assert (await client.ask("POST", "/v1/snapshots", "data-scientist", json=none)).status_code == 404
        narrowed = {"endpoint": endpoint, "model": "census-employment", "unit": "wealth"}
        retrainer = (recorder_settings.home / "secrets" / "tokens" / "retrainer.jwt").read_text().strip()
        assert (await client.ask("POST", "/v1/snapshots", token=retrainer, json=narrowed)).status_code == 404
        own = narrowed | {"unit": "retail"}
        assert (await client.ask("POST", "/v1/snapshots", token=retrainer, json=own)).json()["rows"] == 60
        assert (await client.ask("POST", "/v1/snapshots", "data-scientist", json=narrowed)).status_code == 403
        elsewhere = {"endpoint": fresh(), "model": "census-employment"}
        assert (await client.ask("POST", "/v1/snapshots", "data-scientist", json=elsewhere)).status_code == 404
    assert snapshot["rows"] == 60
    table = pq.read_table(pa.BufferReader(await Objects(recorder_settings).get(snapshot["digest"])))
    assert {field.name for field in table.schema.field("features").type} == set(streams.NAMES)
    row = next(r for r in table.to_pylist() if (r["inference_id"], r["row"]) == (said[3]["inference_id"], 1))
    assert row["label"] == 1.0 and row["features"]["a"] == pytest.approx(said[3]["request"]["inputs"][0]["data"][5])
    assert table["label"].null_count == 40
