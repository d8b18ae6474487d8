"""Streaming through a real broker: one effect per event, whatever happens to the process."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from contracts import InferenceLogged
from services.kit.kafka import Connection
from services.kit.provision import TopicSpec, connect, ensure_topics
from services.kit.testing import eventually
from services.scorer.streams.domain import Identities
from tests.scorer.making import NUMBERS, classifier, wide

from .conftest import Stage, Topic, headers, read, request, rows

MakeEndpoint = Callable[..., str]


async def ask(producer: AIOKafkaProducer, endpoint: str, ids: list[str], **more: Any) -> None:
    sent = [
        await producer.send(
            f"inference.requested.{endpoint}", request(row, **more), key=id.encode(), headers=headers(id)
        )
        for id, row in zip(ids, rows(len(ids)), strict=True)
    ]
    await asyncio.gather(*sent)


async def completed(stage: Stage, endpoint: str, count: int, within: float = 30) -> Topic:
    async def enough() -> Topic | None:
        found = await read(stage.operator, f"inference.completed.{endpoint}")
        return found if len(found.records) >= count else None

    return await eventually(enough, within=within, every=0.3)


async def logged(stage: Stage, endpoint: str) -> Topic:
    return await read(stage.operator, "inference.logged", lambda said: said.get("ce_subject") == endpoint.encode())


async def answered_once_in_order(stage: Stage, endpoint: str, ids: list[str]) -> None:
    """Each of these events has one answer and one entry in the log; a key's answers stand in the order of its ids."""
    answers = await completed(stage, endpoint, len(ids), within=90)
    assert Counter(said["ce_requestid"] for said in answers.headers()) == Counter(ids)

    async def all_logged() -> Topic | None:  # a transaction's end comes to each partition by itself
        found = await logged(stage, endpoint)
        return found if len(found.records) >= len(ids) else None

    logs = await eventually(all_logged, within=30, every=0.3)
    assert Counter(said["ce_id"] for said in logs.headers()) == Counter(
        said["ce_inferenceid"] for said in answers.headers()
    )
    by_key: dict[str, list[str]] = {}
    for key, said in zip(answers.keys(), answers.headers(), strict=True):
        by_key.setdefault(key, []).append(said["ce_requestid"])
    assert all(told == sorted(told) for told in by_key.values())


async def test_an_event_is_answered_with_its_key_and_logged(
    stage: Stage, streaming: MakeEndpoint, producer: AIOKafkaProducer
) -> None:
    endpoint = streaming()
    stage.start("streams")
    await ask(producer, endpoint, ["a", "b"], parameters={"entity": "customer-7"}, id="r1")
    answers = await completed(stage, endpoint, 2)
    by_id = {
        about[2]["ce_requestid"]: about
        for about in zip(answers.keys(), answers.bodies(), answers.headers(), strict=True)
    }
    key, body, said = by_id["a"]
    assert key == "a" and said["ce_type"] == "inference.completed" and said["ce_specversion"] == "1.0"
    assert (
        said["ce_inferenceid"]
        == Identities(endpoint).of([("/till/7", "a")])[0][0]
        == body["parameters"]["inference_id"]
    )
    assert body["model_name"] == endpoint and body["model_version"] == "1" and body["id"] == "r1"
    assert [output["name"] for output in body["outputs"]] == ["label", "probabilities"]
    logs = await logged(stage, endpoint)
    entries = {log["inference_id"]: log for log in logs.bodies()}
    entry = InferenceLogged.model_validate(entries[said["ce_inferenceid"]])
    assert (entry.mode, entry.entity, entry.application, entry.unit) == ("stream", "customer-7", "/till/7", "retail")
    assert entry.writer.startswith(f"stream.{endpoint}.") and entry.seq >= 1
    assert entry.response == body


async def test_what_is_wrong_with_one_record_is_said_about_that_record(
    stage: Stage, streaming: MakeEndpoint, producer: AIOKafkaProducer
) -> None:
    endpoint = streaming()
    topic = f"inference.requested.{endpoint}"
    stage.start("streams")
    wrong: dict[str, tuple[bytes | None, list[tuple[str, bytes]]]] = {
        "no-json": (b"{nonsense", headers("no-json")),
        "no-value": (None, headers("no-value")),
        "missing-column": (request([1.0, 2.0]), headers("missing-column")),
        "text": (b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,3],"data":[1,"7",2]}]}', headers("text")),
        "null": (b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,3],"data":[1,null,2]}]}', headers("null")),
        "version": (request([1, 2, 3]), headers("version", ce_specversion="0.3")),
        "type": (request([1, 2, 3]), headers("type", ce_type="inference.completed")),
        "schema": (request([1, 2, 3]), headers("schema", ce_dataschema="urn:fairlead:schema:inference.requested:99")),
        "no-source": (request([1, 2, 3]), [h for h in headers("no-source") if h[0] != "ce_source"]),
        "no-id": (request([1, 2, 3]), [h for h in headers("no-id") if h[0] != "ce_id"]),
    }
    for name, (value, said) in wrong.items():
        await producer.send_and_wait(topic, value, key=name.encode(), headers=said)
    await ask(producer, endpoint, ["good"])
    answers = await completed(stage, endpoint, len(wrong) + 1)
    told = dict(zip(answers.keys(), zip(answers.bodies(), answers.headers(), strict=True), strict=True))
    assert told["good"][1]["ce_type"] == "inference.completed"
    for name in wrong:
        body, said = told[name]
        assert said["ce_type"] == "inference.failed" and 400 <= body["status"] < 500 and body["error"], name
        assert said.get("ce_requestid") == (None if name == "no-id" else name)
    assert "income" in told["text"][0]["error"] and "income" in told["null"][0]["error"]
    dead = await read(stage.operator, f"dlq.{topic}")
    assert set(dead.keys()) == set(wrong)
    reasons = dict(zip(dead.keys(), dead.headers(), strict=True))
    assert {said.get("ce_unit") for said in reasons.values()} == {"retail"}, "a letter belongs to its endpoint's unit"
    assert "income" in reasons["text"]["__connect.errors.exception.message"]
    assert len((await logged(stage, endpoint)).records) == 1


async def test_an_answer_that_no_record_holds_is_refused_and_the_stream_goes_on(
    stage: Stage, streaming: MakeEndpoint, producer: AIOKafkaProducer, kafka: Path
) -> None:
    """Too large for any record, for its key, or for a topic that an operator made narrow."""
    columns = 230_000
    outputs = (NUMBERS.outputs[0], NUMBERS.outputs[1].model_copy(update={"shape": (-1, columns)}))
    broad = streaming(wide(columns), NUMBERS.model_copy(update={"outputs": outputs}))
    keyed, narrow = streaming(), streaming()
    topic = TopicSpec(f"inference.completed.{narrow}", 1, None, largest=1250)
    ensure_topics(connect(Connection.read(kafka).properties), [topic])
    stage.start("streams")
    await ask(producer, broad, ["one"])
    await producer.send(
        f"inference.requested.{keyed}", request([1, 2, 3]), key=b"k" * 900_000, headers=headers("one"), partition=0
    )
    body = request([1, 2, 3], id="x" * 500)  # an id goes back with the answer
    await producer.send(f"inference.requested.{narrow}", body, key=b"one", headers=headers("one"), partition=0)
    for endpoint in (keyed, narrow):
        await producer.send(
            f"inference.requested.{endpoint}", request([1, 2, 3]), key=b"two", headers=headers("two"), partition=0
        )
    refused, both = {"one": "inference.failed"}, {"one": "inference.failed", "two": "inference.completed"}
    for endpoint, expected in ((broad, refused), (keyed, both), (narrow, both)):
        answers = await completed(stage, endpoint, len(expected))
        assert {said["ce_requestid"]: said["ce_type"] for said in answers.headers()} == expected, endpoint
        dead = await read(stage.operator, f"dlq.inference.requested.{endpoint}")
        assert len(dead.records) == 1


async def test_a_repeat_is_answered_as_the_first_time_and_has_no_second_effect(
    stage: Stage, streaming: MakeEndpoint, producer: AIOKafkaProducer
) -> None:
    endpoint = streaming()
    first = stage.start("streams")
    await ask(producer, endpoint, ["a"] * 3)
    await completed(stage, endpoint, 3)
    await ask(producer, endpoint, ["a"])
    await completed(stage, endpoint, 4)
    first.kill()
    first.wait()
    # Another version serves by now, and the process knows only what the topic tells: the answer is the old one.
    stage.serve(endpoint, classifier(3.0), streaming=True, version=2, revision=2)
    stage.start("streams")
    await ask(producer, endpoint, ["a", "b"])
    answers = await completed(stage, endpoint, 6)
    by_id = zip(answers.headers(), answers.values(), strict=True)
    of_a = [value for said, value in by_id if said["ce_requestid"] == "a"]
    assert len(of_a) == 5 and len(set(of_a)) == 1 and orjson.loads(of_a[0])["model_version"] == "1"
    logs = await logged(stage, endpoint)
    assert sorted(log["version"] for log in logs.bodies()) == [1, 2]


@pytest.mark.timeout(240)
async def test_every_event_is_answered_and_logged_exactly_once_through_kills(
    stage: Stage, streaming: MakeEndpoint, producer: AIOKafkaProducer
) -> None:
    endpoint, count = streaming(), 12_000
    ids = [f"e{i:06}" for i in range(count)]
    chance = random.Random(20)

    async def produce() -> None:
        sent = []
        for i, (id, row) in enumerate(zip(ids, rows(count), strict=True)):
            sent.append(await producer.send(f"inference.requested.{endpoint}", request(row),
                                            key=b"k%d" % (i % 40), headers=headers(id)))  # fmt: skip
            if i % 400 == 0:
                await asyncio.sleep(0.1)
            while kills < min(i // 3_000, 3):  # else a slow start would find everything here, and answer it at once
                await asyncio.sleep(0.1)
        await asyncio.gather(*sent)

    kills = 0
    producing = asyncio.create_task(produce())
    process = stage.start("streams")
    before = 0
    while not producing.done() or kills < 3:
        target = before + 1

        async def goes_on(target: int = target) -> bool:
            return len((await read(stage.operator, f"inference.completed.{endpoint}")).records) >= target

        await eventually(goes_on, within=60, every=0.3)
        await asyncio.sleep(chance.uniform(0, 0.4))
        process.kill()
        process.wait()
        kills += 1
        before = len((await read(stage.operator, f"inference.completed.{endpoint}")).records)
        process = stage.start("streams")
        if before >= count:
            break
    await producing
    assert kills >= 2
    await answered_once_in_order(stage, endpoint, ids)


async def test_a_stalled_process_cannot_answer_for_its_successor(
    stage: Stage, streaming: MakeEndpoint, producer: AIOKafkaProducer
) -> None:
    import signal

    endpoint = streaming()
    stalled = stage.start("streams")
    await ask(producer, endpoint, [f"a{i}" for i in range(200)])
    await completed(stage, endpoint, 200)
    stalled.send_signal(signal.SIGSTOP)
    await ask(producer, endpoint, [f"b{i}" for i in range(200)])
    stage.start("streams")
    await completed(stage, endpoint, 400, within=40)
    stalled.send_signal(signal.SIGCONT)
    await ask(producer, endpoint, [f"c{i}" for i in range(200)])
    answers = await completed(stage, endpoint, 600, within=40)
    assert set(Counter(said["ce_requestid"] for said in answers.headers()).values()) == {1}
    assert len((await logged(stage, endpoint)).records) == 600


async def test_sensitive_columns_leave_as_tokens_and_never_in_dead_letters(
    stage: Stage, streaming: MakeEndpoint, producer: AIOKafkaProducer
) -> None:
    columns = tuple(c.model_copy(update={"sensitive": c.name == "income"}) for c in NUMBERS.columns)
    endpoint = streaming(schema=NUMBERS.model_copy(update={"columns": columns}))
    topic = f"inference.requested.{endpoint}"
    stage.start("streams")
    await producer.send_and_wait(topic, request([1.0, 424242.0, 2.0]), headers=headers("a"))
    await producer.send_and_wait(topic, request([1.0, 424242.0]), headers=headers("b"))
    await completed(stage, endpoint, 2)
    logs = await logged(stage, endpoint)
    dead = await read(stage.operator, f"dlq.{topic}")
    assert len(logs.records) == 1 and len(dead.records) == 1
    assert b"tok_" in logs.values()[0]
    assert not any(b"424242" in value for value in (*logs.values(), *dead.values()))
