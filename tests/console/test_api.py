"""The console's own API on a real broker: topics, events, dead letters, and the way on to the services."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from services.console.settings import ConsoleSettings
from services.kit.kafka import Connection
from services.kit.provision import TopicSpec, connect, endpoint_topics, ensure_topics
from services.kit.testing import eventually
from services.kit.tokens import mint

from .conftest import Client, Peer, Say

RETIRED = orjson.dumps({"model": "credit", "version": 1, "retired_by": "engineer", "reason": "old"})


def ce(unit: str, id: str = "") -> dict[str, str]:
    return {"ce_id": id or str(uuid4()), "ce_type": "model.retired", "ce_source": "/fairlead/catalog", "ce_unit": unit}


def dead(unit: str, reason: str) -> dict[str, str]:
    return ce(unit) | {
        "__connect.errors.topic": "model.retired", "__connect.errors.partition": "0", "__connect.errors.offset": "7",
        "__connect.errors.exception.class.name": "Invalid", "__connect.errors.exception.message": reason,
        "fairlead-service": "deployer",
    }  # fmt: skip


async def test_nobody_is_told_anything(as_: Client) -> None:
    for path in ("/v1/topics", "/v1/platform", "/v1/dead-letters", "/v1/events?topic=model.retired"):
        assert (await as_("").get(path)).status_code == 401


async def test_the_platform_says_who_is_where_and_who_is_away(as_: Client, catalog: Peer, url: str) -> None:
    platform = (await as_("engineer").get("/v1/platform")).json()
    states = {service["service"]: service for service in platform["services"]}
    assert states["console"]["ready"]
    assert states["console"]["url"] == url
    assert states["catalog"]["ready"]
    assert "does not answer" in states["governor"]["problems"]["http"]
    assert not platform["ready"]


async def test_a_topic_tells_its_records_rate_size_and_speaker(as_: Client, say: Say) -> None:
    before = await _topic(as_, "model.retired")
    for _ in range(6):
        await say("model.retired", RETIRED, **ce("retail"))
    after = await eventually(lambda: _changed(as_, "model.retired", before["records"]), within=30)
    assert after["records"] == before["records"] + 6
    assert after["rate"] >= 0.1
    assert after["bytes"] > before["bytes"]
    assert (after["speaker"], after["open"], after["partitions"]) == ("catalog", False, 2)


async def _topic(as_: Client, name: str) -> dict[str, Any]:
    topics = (await as_("admin").get("/v1/topics")).json()["items"]
    return next(topic for topic in topics if topic["topic"] == name)


async def _changed(as_: Client, name: str, records: int) -> dict[str, Any]:
    topic = await _topic(as_, name)
    return topic if topic["records"] > records else {}


async def test_an_application_may_not_look_into_topics(as_: Client) -> None:
    answer = await as_("application").get("/v1/topics")
    assert answer.status_code == 403
    assert "topic.read" in answer.json()["detail"]


async def _stream(
    client: httpx.AsyncClient, opened: asyncio.Event | None = None, **asked: Any
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    position = ""
    async with client.stream("GET", "/v1/events", **asked) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                position = line[4:]
                if opened:
                    opened.set()
            elif line.startswith("data: "):
                yield position, orjson.loads(line[6:])


async def test_events_arrive_as_they_happen_for_who_may_see_their_unit(as_: Client, say: Say) -> None:
    opened = asyncio.Event()

    async def first(who: str) -> dict[str, Any]:
        async for _, document in _stream(as_(who), opened, params={"topic": "model.retired"}):
            return document
        raise AssertionError("the stream ended")

    waiting = asyncio.create_task(first("engineer"))
    await asyncio.wait_for(opened.wait(), 30)
    await say("model.retired", RETIRED, **ce("wealth", "theirs"))
    await say("model.retired", RETIRED, **ce("", "nobodys"))
    await say("model.retired", RETIRED, **ce("retail", "ours"))
    told = await asyncio.wait_for(waiting, 30)
    assert (told["id"], told["type"], told["unit"]) == ("ours", "model.retired", "retail")
    assert told["data"]["model"] == "credit"


async def test_a_stream_goes_on_behind_the_position_that_it_gave(as_: Client, say: Say) -> None:
    ids = [str(uuid4()) for _ in range(3)]
    for id in ids:
        await say("model.retired", RETIRED, partition=1, **ce("retail", id))
    params = {"topic": "model.retired", "since": "start"}
    position = ""
    async for at, document in _stream(as_("admin"), params=params):
        position = at
        if document["id"] == ids[1]:
            break
    async for _, document in _stream(as_("admin"), params=params, headers={"last-event-id": position}):
        if document["partition"] == 1:
            assert document["id"] == ids[2]
            return


@pytest.mark.parametrize(
    ("params", "headers", "status"),
    [
        ({"topic": "strangers"}, {}, 404),
        ({"topic": ""}, {}, 422),
        ({"topic": "model.retired", "since": "yesterday"}, {}, 422),
        ({"topic": "model.retired"}, {"last-event-id": "model.retired:x:1"}, 422),
        ({"topic": "model.retired"}, {"last-event-id": "model.retired:0:" + "9" * 5000}, 422),
        ({"topic": "model.retired"}, {"last-event-id": "model.retired:0:\xb2"}, 422),
        ({"topic": "dlq.model.retired"}, {}, 403),
        ({"topic": "audit.recorded"}, {}, 403),
        ({"topic": "dlq.audit.recorded"}, {}, 403),
        ({"topic": "__consumer_offsets"}, {}, 404),
        ({"topic": "dlq.dlq.model.retired"}, {}, 404),
        ({"topic": "inference.requested.a\nb"}, {}, 404),
    ],
)
async def test_a_stream_that_cannot_be_is_refused_before_it_begins(
    as_: Client, params: dict[str, str], headers: dict[str, str], status: int
) -> None:
    who = "data-scientist" if status == 403 else "admin"
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = await as_(who).get("/v1/events", params=params, headers=raw)  # pyright: ignore[reportArgumentType]
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_a_stream_ends_with_the_token_of_its_reader(as_: Client, say: Say, settings: ConsoleSettings) -> None:
    await say("model.retired", RETIRED, **ce("retail"))
    ttl = timedelta(seconds=8)
    token = mint(settings.keys / "issuer.key", "engineer", ["engineer"], ["retail"], "person", ttl)
    client = as_("")
    client.headers["authorization"] = f"Bearer {token}"
    seen = 0
    async with asyncio.timeout(30):
        async for _ in _stream(client, params={"topic": "model.retired", "since": "start"}):
            seen += 1
    assert seen > 0, "it told what there was until then"
    assert (await client.get("/v1/events", params={"topic": "model.retired"})).status_code == 401


async def test_streams_are_bounded_and_given_back(as_: Client) -> None:
    opened = [asyncio.Event() for _ in range(3)]

    async def hold(event: asyncio.Event) -> None:
        async for _ in _stream(as_("admin"), event, params={"topic": "model.registered"}):
            pass

    held = [asyncio.create_task(hold(event)) for event in opened]
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in opened)), 45)
    assert (await as_("admin").get("/v1/events", params={"topic": "model.registered"})).status_code == 429
    for task in held:
        task.cancel()
    await asyncio.wait(held)
    assert await eventually(lambda: _opens(as_("admin")), within=45, every=0.5)


async def _opens(client: httpx.AsyncClient) -> bool:
    async with client.stream("GET", "/v1/events", params={"topic": "model.registered"}) as response:
        return response.status_code == 200


async def test_a_dead_letter_is_listed_with_its_reason_and_replayed_to_its_service_alone(as_: Client, say: Say) -> None:
    partition, offset = await say("dlq.model.retired", RETIRED, **dead("retail", "no such model"))
    letters = (await as_("engineer").get("/v1/dead-letters", params={"topic": "model.retired"})).json()["items"]
    letter = next(each for each in letters if each["offset"] == offset)
    assert (letter["source"], letter["service"], letter["error"]) == ("model.retired", "deployer", "Invalid")
    assert (letter["reason"], letter["replayed"], letter["unit"]) == ("no such model", False, "retail")

    body = {"topic": "dlq.model.retired", "records": [{"partition": partition, "offset": offset}]}
    done = await as_("engineer").post("/v1/dead-letters/replay", json=body)
    assert done.json() == {"topic": "dlq.model.retired", "replayed": 1, "left": 0}
    topic = await _latest_of(as_, "model.retired")
    assert topic["key"] == "key"
    letters = (await as_("engineer").get("/v1/dead-letters", params={"topic": "model.retired"})).json()["items"]
    assert next(each for each in letters if each["offset"] == offset)["replayed"]
    assert (await as_("engineer").post("/v1/dead-letters/replay", json=body)).json()["replayed"] == 1, (
        "it may be repeated"
    )


async def _latest_of(as_: Client, topic: str) -> dict[str, Any]:
    """The last record of a topic that is addressed to one service."""
    last: dict[str, Any] = {}
    async with asyncio.timeout(45):
        state = await _topic(as_, topic)
        count = 0
        async for _, document in _stream(as_("admin"), params={"topic": topic, "since": "start"}):
            last, count = document, count + 1
            if count >= state["records"]:
                return last
    raise AssertionError("the stream ended")


async def test_replaying_all_gives_out_each_waiting_letter_once(as_: Client, say: Say) -> None:
    await as_("admin").post("/v1/dead-letters/replay", json={"topic": "dlq.usecase.registered"})
    for number in range(3):
        headers = dead("retail", f"reason {number}") | {"__connect.errors.topic": "usecase.registered"}
        await say("dlq.usecase.registered", b"{}", **headers)
    before = await _topic(as_, "usecase.registered")
    assert await eventually(lambda: _waiting(as_, 3), within=30)
    answer = await as_("engineer").post("/v1/dead-letters/replay", json={"topic": "dlq.usecase.registered"})
    assert answer.json()["replayed"] == 3
    assert (await as_("engineer").post("/v1/dead-letters/replay", json={"topic": "dlq.usecase.registered"})).json()[
        "replayed"
    ] == 0
    after = await eventually(lambda: _changed(as_, "usecase.registered", before["records"]), within=30)
    assert after["records"] == before["records"] + 3
    assert after["dead_letters"] == 0


async def _waiting(as_: Client, count: int) -> bool:
    return (await _topic(as_, "dlq.usecase.registered"))["dead_letters"] == count


async def test_dead_letters_of_another_unit_are_neither_shown_nor_replayed(as_: Client, say: Say) -> None:
    partition, offset = await say("dlq.model.retired", RETIRED, **dead("retail", "private"))
    shown = (await as_("other-unit").get("/v1/dead-letters", params={"topic": "dlq.model.retired"})).json()["items"]
    assert not [letter for letter in shown if letter["unit"] != "wealth"]
    body = {"topic": "dlq.model.retired", "records": [{"partition": partition, "offset": offset}]}
    assert (await as_("other-unit").post("/v1/dead-letters/replay", json=body)).status_code == 403


async def test_dead_letters_of_the_audit_need_the_audit(as_: Client, say: Say) -> None:
    """Whoever runs the services does not thereby read what everybody did."""
    headers = dead("retail", "secret") | {"__connect.errors.topic": "audit.recorded"}
    partition, offset = await say("dlq.audit.recorded", b"{}", **headers)
    place = {"topic": "dlq.audit.recorded", "records": [{"partition": partition, "offset": offset}]}
    engineer = as_("engineer")
    for answer in (
        await engineer.get("/v1/events", params={"topic": "dlq.audit.recorded"}),
        await engineer.get("/v1/dead-letters", params={"topic": "audit.recorded"}),
        await engineer.get("/v1/dead-letters", params={"topic": "dlq.audit.recorded"}),
        await engineer.post("/v1/dead-letters/replay", json=place),
        await engineer.post("/v1/dead-letters/replay", json={"topic": "dlq.audit.recorded"}),
    ):
        assert (answer.status_code, "audit.read" in answer.text) == (403, True), answer.text
    assert "audit.recorded" not in {each["source"] for each in (await engineer.get("/v1/dead-letters")).json()["items"]}
    whole = (await as_("admin").get("/v1/dead-letters", params={"topic": "audit.recorded"})).json()["items"]
    assert (partition, offset) in {(each["partition"], each["offset"]) for each in whole}


async def test_topics_of_others_on_the_same_cluster_are_not_there(as_: Client, say: Say, kafka: Path) -> None:
    topic = f"strangers-{uuid4().hex[:8]}"
    admin = connect(Connection.read(kafka).properties)
    await asyncio.to_thread(ensure_topics, admin, [TopicSpec(topic, 1, keep_ms=None)])
    await say(topic, b"private")
    assert topic not in {each["topic"] for each in (await as_("admin").get("/v1/topics")).json()["items"]}
    for path in ("/v1/events", "/v1/dead-letters"):
        assert (await as_("admin").get(path, params={"topic": topic, "since": "start"})).status_code == 404


async def test_dead_letters_are_counted_as_far_as_the_caller_may_see_them(as_: Client, say: Say) -> None:
    async def counted(who: str) -> int | None:
        topics = (await as_(who).get("/v1/topics")).json()["items"]
        same = {
            each["dead_letters"]
            for each in topics
            if each["topic"] in ("retraining.requested", "dlq.retraining.requested")
        }
        (count,) = same
        return count

    before = {who: await counted(who) for who in ("engineer", "other-unit", "admin")}
    source = {"__connect.errors.topic": "retraining.requested"}
    for unit in ("retail", "retail", "wealth", ""):
        await say("dlq.retraining.requested", b"{}", **dead(unit, "x") | source)
    more = {"engineer": 2, "other-unit": 1, "admin": 4}

    async def grown() -> bool:
        return {who: (await counted(who) or 0) - (before[who] or 0) for who in more} == more

    assert await eventually(grown, within=20)
    assert await counted("data-scientist") is None, "who may read none is not told that there are none"
    await as_("other-unit").post("/v1/dead-letters/replay", json={"topic": "dlq.retraining.requested"})
    assert await eventually(lambda: _none(counted("other-unit")), within=20)


async def _none(counting: Awaitable[int | None]) -> bool:
    return await counting == 0


async def test_others_dead_letters_crowd_nobodys_out(as_: Client, say: Say) -> None:
    """Of what the caller may see so many, not so many of which the caller may see some."""
    marks = [f"old {uuid4().hex}" for _ in range(3)]
    for mark in marks:
        await say("dlq.model.retired", RETIRED, **dead("wealth", mark))
    for _ in range(7):
        await say("dlq.model.retired", RETIRED, **dead("retail", "newer"))
    params: dict[str, Any] = {"topic": "model.retired", "limit": 2}
    first = (await as_("other-unit").get("/v1/dead-letters", params=params)).json()
    assert [each["reason"] for each in first["items"]] == [marks[2], marks[1]]
    second = (await as_("other-unit").get("/v1/dead-letters", params=params | {"cursor": first["next"]})).json()
    assert second["items"][0]["reason"] == marks[0]
    told = (await as_("other-unit").get("/v1/dead-letters", params={"cursor": "yesterday"})).json()
    assert (told["status"], told["field"]) == (422, "cursor")


async def test_every_dead_letter_of_every_topic_comes_once_page_by_page(as_: Client, say: Say) -> None:
    for number in range(9):
        topic = ("model.retired", "usecase.registered", "model.registered")[number % 3]
        headers = dead("retail", f"number {number}") | {"__connect.errors.topic": topic}
        await say(f"dlq.{topic}", RETIRED, **headers)

    async def places(limit: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await as_("admin").get("/v1/dead-letters", params={"limit": limit} | cursor)).json()
            found += [(each["topic"], each["offset"]) for each in page["items"]]
            if not page["next"]:
                return found
            cursor = {"cursor": page["next"]}

    whole = await places(500)
    assert len(set(whole)) == len(whole) >= 9
    assert await places(4) == whole


async def test_who_sees_many_endpoints_sees_the_topics_of_all(
    as_: Client, deployer: Peer, home: Path, kafka: Path
) -> None:
    names = [f"many-{number:03}-{uuid4().hex[:6]}" for number in range(201)]
    token = (home / "tokens" / "engineer.jwt").read_text()
    deployer.endpoints |= dict.fromkeys(names, token)
    admin = connect(Connection.read(kafka).properties)
    await asyncio.to_thread(ensure_topics, admin, endpoint_topics(names[-1]))
    listed = {each["topic"] for each in (await as_("engineer").get("/v1/topics")).json()["items"]}
    assert f"inference.requested.{names[-1]}" in listed


async def test_a_letter_that_cannot_be_replayed_holds_up_no_other(as_: Client, say: Say) -> None:
    topic, sound = "dlq.usecase.registered", {"__connect.errors.topic": "usecase.registered"}
    before = (await as_("admin").post("/v1/dead-letters/replay", json={"topic": topic})).json()["left"]
    await say(topic, b"{}", **dead("retail", "forged") | {"__connect.errors.topic": "approval.granted"})
    await say(topic, b"", **dead("retail", "large") | sound | {"fairlead-value-left-out": "2000000"})
    await say(topic, b"{}", **dead("retail", "sound") | sound)
    answer = await as_("engineer").post("/v1/dead-letters/replay", json={"topic": topic})
    assert answer.json() == {"topic": topic, "replayed": 1, "left": before + 2}


async def test_replaying_all_reaches_behind_the_newest_thousand(as_: Client, say: Say) -> None:
    topic = "dlq.retraining.completed"
    headers = dead("retail", "x") | {"__connect.errors.topic": "retraining.completed"}
    await asyncio.gather(*(say(topic, b"{}", partition=0, **headers) for _ in range(1_200)))
    answer = await as_("engineer").post("/v1/dead-letters/replay", json={"topic": topic})
    assert answer.json()["replayed"] == 1_200
    assert (await as_("engineer").post("/v1/dead-letters/replay", json={"topic": topic})).json()["replayed"] == 0


async def test_topics_of_another_units_endpoint_are_not_there(
    as_: Client, say: Say, deployer: Peer, home: Path, kafka: Path
) -> None:
    endpoint = f"ours-{uuid4().hex[:8]}"
    deployer.endpoints[endpoint] = (home / "tokens" / "engineer.jwt").read_text()
    admin = connect(Connection.read(kafka).properties)
    await asyncio.to_thread(ensure_topics, admin, endpoint_topics(endpoint))
    topic = f"inference.requested.{endpoint}"
    # A producer says which unit it is of, truly or not.
    await say(topic, b'{"secret": 1}', **ce("wealth", "claimed"))
    partition, offset = await say(f"dlq.{topic}", b"{}", **dead("wealth", "x") | {"__connect.errors.topic": topic})
    place = {"topic": f"dlq.{topic}", "records": [{"partition": partition, "offset": offset}]}

    theirs = as_("other-unit")
    for answer in (
        await theirs.get("/v1/events", params={"topic": f"model.retired,{topic}", "since": "start"}),
        await theirs.get("/v1/dead-letters", params={"topic": topic}),
        await theirs.get("/v1/dead-letters", params={"topic": f"dlq.{topic}"}),
        await theirs.post("/v1/dead-letters/replay", json=place),
        await theirs.post("/v1/dead-letters/replay", json={"topic": f"dlq.{topic}"}),
    ):
        assert answer.status_code == 404, answer.text
    all_letters = (await theirs.get("/v1/dead-letters")).json()["items"]
    assert not [each for each in all_letters if each["topic"] == f"dlq.{topic}"]
    listed = {each["topic"] for each in (await theirs.get("/v1/topics")).json()["items"]}
    assert not {topic, f"dlq.{topic}"} & listed
    assert (await as_("engineer").get("/v1/dead-letters", params={"topic": topic})).status_code == 200


async def test_without_the_deployer_topics_of_endpoints_stay_shut(as_: Client) -> None:
    answer = await as_("other-unit").get("/v1/events", params={"topic": "inference.requested.ours"})
    assert answer.status_code == 503


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"topic": "model.retired", "records": [{"partition": 0, "offset": 0}]}, 422, "topic"),
        ({"topic": "dlq.strangers"}, 404, None),
        ({"topic": "dlq.model.retired", "records": [{"partition": 0, "offset": 10**9}]}, 404, None),
        ({"topic": "dlq.model.retired", "records": [{"partition": -1, "offset": 0}]}, 422, "records.0.partition"),
        ({"topic": "dlq.model.retired", "all": True}, 422, "all"),
        ({}, 422, "topic"),
    ],
)
async def test_a_replay_of_what_is_not_there_is_refused(
    as_: Client, body: dict[str, Any], status: int, field: str | None
) -> None:
    answer = await as_("admin").post("/v1/dead-letters/replay", json=body)
    assert (answer.status_code, answer.json().get("field")) == (status, field)


async def test_a_record_that_names_no_source_is_not_replayed(as_: Client, say: Say) -> None:
    forged = dead("retail", "x") | {"__connect.errors.topic": "approval.granted"}
    partition, offset = await say("dlq.model.retired", RETIRED, **forged)
    body = {"topic": "dlq.model.retired", "records": [{"partition": partition, "offset": offset}]}
    answer = await as_("admin").post("/v1/dead-letters/replay", json=body)
    assert (answer.status_code, "names no source" in answer.json()["detail"]) == (422, True)
    headers = dead("retail", "x") | {"__connect.errors.topic": "model.retired"}
    await say("dlq.model.retired", RETIRED, **headers)


async def test_a_request_reaches_its_service_unchanged(as_: Client, catalog: Peer) -> None:
    body = gzip.compress(b"model bytes" * 1000)
    headers = {"content-encoding": "gzip", "idempotency-key": "k-1", "cookie": "fairlead_session=x"}
    answer = await as_("engineer").post("/v1/models/a%2Fb?x=1&y=%20", content=body, headers=headers)
    assert answer.text == "here"
    assert "set-cookie" not in answer.headers
    request, seen = catalog.seen[-1]
    assert seen == body
    assert (request.scope["raw_path"], request.scope["query_string"]) == (b"/v1/models/a%2Fb", b"x=1&y=%20")
    assert (request.headers["idempotency-key"], request.headers["content-encoding"]) == ("k-1", "gzip")
    assert request.headers["authorization"].startswith("Bearer ")
    assert "cookie" not in request.headers


@pytest.mark.parametrize("given", [{}, {"fairlead-correlation-id": "the-clients-own-story"}])
async def test_the_story_that_an_answer_names_is_the_one_in_which_the_service_acts(
    as_: Client, catalog: Peer, given: dict[str, str]
) -> None:
    answer = await as_("engineer").post("/v1/models", content=b"x", headers=given)
    (acted,) = catalog.seen[-1][0].headers.getlist("fairlead-correlation-id")
    assert acted == answer.headers["fairlead-correlation-id"] == given.get("fairlead-correlation-id", acted)
    page = await as_("engineer").get("/models")
    assert catalog.seen[-1][0].headers["fairlead-correlation-id"] == page.headers["fairlead-correlation-id"]


async def test_an_upload_is_passed_on_in_pieces_not_gathered(as_: Client, catalog: Peer) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 1_000_000

    assert (await as_("engineer").post("/v1/models", content=pieces())).status_code == 200
    assert len(catalog.seen[-1][1]) == 40_000_000


@pytest.mark.parametrize(
    "path", ["/login", "/approvals/x/decision", "/alerts/x/acknowledge", "/v1/dead-letters/replay"]
)
async def test_the_consoles_own_forms_are_small(as_: Client, path: str) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await as_("").post(path, content=b"reason=" + b"x" * 1_000_000, headers=headers)
    assert answer.status_code == 413, path


async def test_an_answer_comes_back_as_it_is_made(as_: Client, scorer: Peer) -> None:
    times: list[float] = []
    async with as_("engineer").stream("GET", "/v2/models/slow") as response:
        async for _ in response.aiter_raw():
            times.append(asyncio.get_running_loop().time())
    assert times[-1] - times[0] > 0.2
    assert "x-mine" not in response.headers
    assert response.headers["x-yours"] == "2"


async def test_a_refusal_of_a_service_is_handed_back(as_: Client, catalog: Peer) -> None:
    answer = await as_("engineer").get("/v1/models/gone")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no model gone")


async def test_a_service_that_is_away_is_named(as_: Client) -> None:
    answer = await as_("engineer").get("/v1/approvals")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "governor is away" in answer.json()["detail"]
    assert (await as_("engineer").post("/v2/models/credit/infer", json={})).json() == {
        "error": "the scorer is away; nothing was done, try again"
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("POST", "/v1/approvals/x/decision", 502, "whether this was done is not known"),
        ("POST", "/v2/models/credit/infer", 502, "whether this was done is not known"),
        ("GET", "/v1/approvals", 503, "went away before it answered"),
    ],
)
async def test_nobody_is_told_that_nothing_was_done_where_that_is_not_known(
    as_: Client, settings: ConsoleSettings, method: str, path: str, status: int, says: str
) -> None:
    """A service that dies with the request in hand may have done it."""

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    servers = [
        await asyncio.start_server(die, "127.0.0.1", settings.listen_port(name)) for name in ("governor", "scorer")
    ]
    try:
        answer = await as_("compliance").request(method, path)
    finally:
        for server in servers:
            server.close()
    assert (answer.status_code, says in answer.text, "nothing was done" in answer.text) == (status, True, False)


async def test_what_no_service_answers_is_not_found(as_: Client) -> None:
    assert (await as_("admin").get("/v1/secrets")).status_code == 404


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"sec-fetch-site": "same-origin", "origin": "null"}, 303),
        ({"origin": "http://{here}"}, 303),
        ({}, 303),
        ({"sec-fetch-site": "cross-site", "origin": "http://{here}"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://elsewhere.test"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_no_other_site_signs_a_person_in(as_: Client, home: Path, said: dict[str, str], status: int) -> None:
    """Whoever works as somebody else unknowingly hands them what they upload."""
    browser, token = as_(""), (home / "tokens" / "engineer.jwt").read_text().strip()
    asked = await browser.get("/login", params={"token": token})
    assert (asked.status_code, "set-cookie" in asked.headers) == (200, False)
    assert "Sign in as engineer" in asked.text
    headers = {name: value.format(here=browser.base_url.netloc.decode()) for name, value in said.items()}
    answer = await browser.post("/login", data={"token": token}, headers=headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (status, status == 303)


async def test_a_cookie_cannot_write_without_the_pages_own_token(as_: Client, catalog: Peer, home: Any) -> None:
    browser = as_("")
    token = (home / "tokens" / "engineer.jwt").read_text()
    signed_in = await browser.post("/login", data={"token": token})
    assert signed_in.status_code == 303
    assert (await browser.get("/v1/models")).text == "here"
    before = len(catalog.seen)
    forged = await browser.post("/v1/models", content=b"x")
    assert (forged.status_code, len(catalog.seen)) == (403, before)
    page = (await browser.get("/topics")).text
    csrf = page.partition('name="csrf" content="')[2].partition('"')[0]
    assert (await browser.post("/v1/models", content=b"x", headers={"x-csrf-token": csrf})).status_code == 200
    assert catalog.seen[-1][0].headers["authorization"] == f"Bearer {token}"


async def test_a_wrong_token_is_refused_at_the_door(as_: Client) -> None:
    answer = await as_("").post("/login", data={"token": "nonsense"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "That did not work" in answer.text


async def test_a_page_sends_strangers_to_the_door_and_back(as_: Client) -> None:
    answer = await as_("").get("/approvals")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/approvals")


WINDOW = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def _signed_in(as_: Client, home: Path, who: str) -> httpx.AsyncClient:
    browser = as_("")
    answer = await browser.post("/login", data={"token": (home / "tokens" / f"{who}.jwt").read_text()})
    assert answer.status_code == 303
    return browser


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/models/No%20Name", 422)])
async def test_an_address_that_is_none_is_a_page_with_a_way_back(
    as_: Client, home: Path, path: str, status: int
) -> None:
    browser = await _signed_in(as_, home, "engineer")
    answer = await browser.get(path, headers=WINDOW)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert '<a class="button primary" href="/">' in answer.text
    assert 'aria-label="Pages"' in answer.text
    assert "script-src 'self';" in answer.headers["content-security-policy"]


async def test_a_stranger_at_an_address_that_is_none_learns_no_more_than_that(as_: Client) -> None:
    answer = await as_("").get("/nowhere", headers=WINDOW)
    assert (answer.status_code, "There is no such page" in answer.text, "aria-label" in answer.text) == (
        404,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("path", "headers"), [("/v1/secrets", WINDOW), ("/nowhere", {}), ("/nowhere", WINDOW | {"hx-request": "true"})]
)
async def test_a_program_is_told_the_problem_itself(as_: Client, path: str, headers: dict[str, str]) -> None:
    answer = await as_("admin").get(path, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_bug_is_a_page_that_names_where_the_log_tells_more(
    as_: Client, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await _signed_in(as_, home, "engineer")
    monkeypatch.setattr("services.console.pages.topics._groups", lambda _: 1 / 0)
    answer = await browser.get("/topics", headers=WINDOW)
    assert answer.status_code == 500
    assert answer.headers["fairlead-correlation-id"] in answer.text
    assert "Try again" in answer.text
    assert "script-src 'self';" in answer.headers["content-security-policy"]


async def test_what_renews_itself_is_told_that_the_session_has_ended(as_: Client) -> None:
    for headers in ({"hx-request": "true", "accept": "text/html"}, {"accept": "application/json"}):
        answer = await as_("").get("/parts/nav", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")


async def test_who_comes_with_an_ended_session_is_told_so_and_led_back(as_: Client, settings: ConsoleSettings) -> None:
    ended = mint(settings.keys / "issuer.key", "engineer", ["engineer"], ["retail"], "person", timedelta(seconds=2))
    browser = as_("")
    await browser.post("/login", data={"token": ended})

    async def refused() -> str:
        return (await browser.get("/dead-letters?topic=a", headers=WINDOW)).headers.get("location", "")

    assert await eventually(refused, within=10) == "/login?next=/dead-letters%3Ftopic%3Da&ended=true"
    assert "Your session has ended." in (await browser.get(await refused())).text


async def test_every_version_of_a_model_is_reached_page_by_page(as_: Client, home: Path, catalog: Peer) -> None:
    browser = await _signed_in(as_, home, "engineer")
    seen: list[str] = []
    path = "/models/long"
    while path:
        page = (await browser.get(path)).text
        assert ("Newest versions" in page) == (path != "/models/long")
        seen += re.findall(r"/models/long/versions/(\d+)", page)
        (path, *_) = re.findall(r'href="(/models/long\?cursor=[^"]+)">Earlier', page) or [""]
    assert seen == [str(n) for n in range(120, 0, -1)]


async def test_pages_run_nothing_from_elsewhere(as_: Client, home: Any) -> None:
    browser = as_("")
    await browser.post("/login", data={"token": (home / "tokens" / "admin.jwt").read_text()})
    answer = await browser.get("/models")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert "catalog does not answer" in answer.text, "a page says which part is away and shows the rest"


async def test_a_dispute_is_closed_with_what_was_found(as_: Client, governor: Peer, home: Path) -> None:
    governor.alerts = [
        {"id": str(uuid4()), "closable": closable, "state": "open", "severity": "critical", "title": "Look here"}
        for closable in (True, False)
    ]
    browser = as_("")
    await browser.post("/login", data={"token": (home / "tokens" / "compliance.jwt").read_text()})
    page = (await browser.get("/alerts")).text
    dispute, gap = (alert["id"] for alert in governor.alerts)
    assert (f"/alerts/{dispute}/close" in page, f"/alerts/{gap}/close" in page) == (True, False)
    csrf = page.partition('name="csrf" content="')[2].partition('"')[0]
    found = {"reason": "set back by an operator"}
    await browser.post(f"/alerts/{dispute}/close", data=found, headers={"x-csrf-token": csrf})
    (told,) = [(request, body) for request, body in governor.seen if request.method == "POST"]
    assert (told[0].url.path, orjson.loads(told[1])) == (f"/v1/alerts/{dispute}/close", found)


async def test_an_alert_shows_who_was_told_and_is_taken_with_a_comment(as_: Client, governor: Peer, home: Path) -> None:
    alert, silence, at = str(uuid4()), str(uuid4()), "2026-03-01T12:00:00Z"
    governor.alerts = [{"id": alert, "state": "open", "severity": "warning", "title": "Slow", "cost": "12 EUR a day"}]
    message = {"alerts": [alert], "gathered_at": at, "ended_at": at, "reason": None}
    governor.messages = [
        message | {"channel": {"kind": "email", "connection": "mail", "to": ["ops@bank.example"]}, "state": "failed",
                   "reason": "status 550"},
        message | {"channel": {"kind": "webhook", "connection": "ops", "path": "/alerts"}, "state": "sent"},
    ]  # fmt: skip
    governor.silences = [
        {"id": silence, "state": "active", "endpoint": "credit", "kind": None, "unit": "retail", "starts_at": at,
         "ends_at": at, "author": "engineer", "comment": "<b>new hosts</b>"},
    ]  # fmt: skip
    browser = as_("")
    await browser.post("/login", data={"token": (home / "tokens" / "engineer.jwt").read_text()})
    page = (await browser.get("/alerts")).text
    assert page.index("ops/alerts") < page.index("ops@bank.example") and "status 550" in page
    assert "12 EUR a day" in page and "Not everything is told." in page
    csrf = {"x-csrf-token": page.partition('name="csrf" content="')[2].partition('"')[0]}
    await browser.post(f"/alerts/{alert}/acknowledge", data={"comment": "on it"}, headers=csrf)
    await browser.post(f"/alerts/{alert}/acknowledge", headers=csrf)
    page = (await browser.get("/alerts/silences")).text
    assert f"/alerts/silences/{silence}/end" in page and "&lt;b&gt;new hosts" in page
    await browser.post(f"/alerts/silences/{silence}/end", headers=csrf)
    said = [(request.url.path, orjson.loads(body)) for request, body in governor.seen if request.method == "POST"]
    assert said == [
        (f"/v1/alerts/{alert}/acknowledge", {"comment": "on it"}), (f"/v1/alerts/{alert}/acknowledge", {}),
        (f"/v1/alert-silences/{silence}/end", {}),
    ]  # fmt: skip


async def test_the_overview_says_none_only_of_what_the_person_may_see(as_: Client, home: Path, governor: Peer) -> None:
    browser = as_("")
    await browser.post("/login", data={"token": (home / "tokens" / "application.jwt").read_text()})
    page = (await browser.get("/")).text
    for claim in ("everything was handled", "Nothing has happened yet", "data-events", "connecting"):
        assert claim not in page, claim
    assert "not for your roles" in page


async def test_a_drift_that_somebody_took_drifts_on_and_asks_for_nobody(
    as_: Client, home: Path, governor: Peer
) -> None:
    governor.alerts = [{"id": str(uuid4()), "kind": "drift", "severity": "warning", "state": "acknowledged",
                        "title": "Ages moved", "todo": "Look", "raised_at": "2026-01-01T00:00:00Z"}]  # fmt: skip
    browser = as_("")
    await browser.post("/login", data={"token": (home / "tokens" / "admin.jwt").read_text()})
    page = (await browser.get("/")).text
    assert "drifting now" in page and "all as trained" not in page
    assert "Ages moved" not in page and "Answer(" not in page
    (asked,) = {str(request.url.query) for request, _ in governor.seen
                if request.url.path == "/v1/alerts" and request.query_params["limit"] == "200"}  # fmt: skip
    assert "state=open&state=acknowledged" in asked


async def test_every_page_stands_while_the_services_are_away(as_: Client, home: Any) -> None:
    browser = as_("")
    await browser.post("/login", data={"token": (home / "tokens" / "admin.jwt").read_text()})
    for path in ("/", "/models", "/endpoints", "/topics", "/approvals", "/alerts", "/alerts/routes",
                 "/alerts/routes?new=true", "/alerts/silences", "/audit", "/dead-letters"):  # fmt: skip
        assert (await browser.get(path)).status_code == 200, path
