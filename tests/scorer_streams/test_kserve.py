"""Inferences of KServe: its logger posts each half by itself; joined by id they are in our log, once each."""

import asyncio
import base64
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from sqlalchemy import text

from contracts import DeploymentChanged, InferenceLogged, ModelSchema, Service, TensorSpec
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.errors import Busy, Conflict, Invalid, TooLarge
from services.kit.objects import Objects
from services.kit.testing import eventually
from services.scorer.imports.kserve.domain import attributes, request_half, response_half, source_of
from services.scorer.imports.kserve.usecases import Intake, Sending
from services.scorer.imports.work import ImportWork
from services.scorer.tokenise import Tokeniser
from services.scorer.v2 import BadInput, Codec
from tests.scorer.making import NUMBERS, classifier

from .conftest import Stage, Topic, read

AT = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=7)
V1: dict[str, Any] = {"request": {"instances": [[1.0, 424242.0, 3.0]]}, "response": {"predictions": [1]}}


def event(id: str, side: str, at: datetime = AT, **more: str) -> dict[str, str]:
    """The headers that KServe's logger sends."""
    said = {
        "ce-specversion": "1.0", "ce-id": id, "ce-type": f"org.kubeflow.serving.inference.{side}",
        "ce-source": "http://localhost:9081/", "ce-inferenceservicename": "sklearn-iris", "ce-namespace": "default",
        "ce-component": "predictor", "ce-endpoint": "", "ce-metadata": "{}", "ce-time": at.isoformat(),
        "content-type": "application/json",
    }  # fmt: skip
    return said | {name.replace("_", "-"): value for name, value in more.items()}


@pytest.fixture
async def logger(stage: Stage, service_url: Callable[[Service], str]) -> AsyncIterator[httpx.AsyncClient]:
    """KServe's logger; the token is the password of its URL, since it sends no header of anybody's choice."""
    stage.database = service_url("scorer")
    auth = httpx.BasicAuth("kserve", stage.house.token())
    async with httpx.AsyncClient(auth=auth, timeout=10) as made:
        yield made


async def started(stage: Stage) -> str:
    """The batches' process, when it answers: where imports are posted."""
    path = stage.house.settings.batches_port_path
    path.unlink(missing_ok=True)
    process = stage.start("batches")

    async def up() -> str | None:
        assert process.poll() is None, (stage.house.settings.home / "batches.log").read_text()[-2000:]
        return path.read_text() if path.exists() else None

    return f"http://127.0.0.1:{await eventually(up, within=40, every=0.1)}/v1/inferences/kserve"


async def logged(stage: Stage, endpoint: str, count: int) -> Topic:
    async def enough() -> Topic | None:
        found = await read(stage.operator, "inference.logged", lambda s: s.get("ce_subject") == endpoint.encode())
        return found if len({log["inference_id"] for log in found.bodies()}) >= count else None

    return await eventually(enough, within=40, every=0.3)


async def test_two_halves_are_one_inference_whichever_comes_first_and_however_often(
    stage: Stage, logger: httpx.AsyncClient
) -> None:
    endpoint = f"iris-{uuid4().hex[:8]}"
    stage.serve(endpoint, classifier())
    url = await started(stage)

    async def post(id: str, side: str, at: datetime = AT) -> str:
        answer = await logger.post(f"{url}/{endpoint}", headers=event(id, side, at), json=V1[side])
        assert answer.status_code == 200, answer.text
        return answer.json()["state"]

    first, second = str(uuid4()), str(uuid4())
    assert [await post(first, "request"), await post(first, "request")] == ["waiting", "waiting"]
    assert await post(second, "response", AT + timedelta(milliseconds=40)) == "waiting"
    stage.processes[-1].kill()
    stage.processes[-1].wait()
    url = await started(stage)
    assert await post(first, "response", AT + timedelta(milliseconds=25)) == "joined"
    assert await post(second, "request") == "joined"
    assert [await post(first, "request"), await post(second, "response")] == ["repeated", "repeated"]
    found = await logged(stage, endpoint, 2)
    logs = {log.inference_id: log for log in map(InferenceLogged.from_json, found.values())}
    assert len(found.records) == 2 and logs.keys() == {first, second}
    one = logs[first]
    assert (one.mode, one.application, one.unit, one.rows) == ("imported", "application", "retail", 1)
    assert (one.received_at, one.latency_ms, logs[second].latency_ms) == (AT, 25.0, 40.0)
    assert one.request["inputs"][0]["data"] == [1.0, 424242.0, 3.0]
    assert one.response["outputs"] == [{"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}]
    bearer = {"Authorization": f"Bearer {stage.house.token()}"}
    async with httpx.AsyncClient(headers=bearer) as person:
        figures = (await person.get(f"{url}/{endpoint}")).json()
    assert figures == {
        "endpoint": endpoint, "joined": 2, "repeated": 2, "lone_requests": 0, "lone_responses": 0, "waiting": 0,
        "oldest": None,
    }  # fmt: skip


async def test_halves_that_come_at_once_and_through_kills_are_joined_once_each(
    stage: Stage, logger: httpx.AsyncClient
) -> None:
    endpoint = f"iris-{uuid4().hex[:8]}"
    stage.serve(endpoint, classifier())
    url = await started(stage)
    ids = [str(uuid4()) for _ in range(150)]
    halves = [(id, side) for id in ids for side in ("request", "response", "response")]
    random.Random(3).shuffle(halves)

    async def post(id: str, side: str) -> None:
        while True:  # this logger, unlike KServe's, tries again
            try:
                answer = await logger.post(f"{url}/{endpoint}", headers=event(id, side), json=V1[side])
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            assert answer.status_code == 200, answer.text
            return

    for number in range(3):
        some = [asyncio.create_task(post(*half)) for half in halves[number * 150 : number * 150 + 150]]
        if number < 2:
            await asyncio.sleep(0.3)
            stage.processes[-1].kill()
            stage.processes[-1].wait()
            url = await started(stage)
        await asyncio.gather(*some)
    found = await logged(stage, endpoint, 150)
    places: dict[str, set[tuple[int, str, int]]] = defaultdict(set)
    highest: dict[int, int] = {}
    for record, log in zip(found.records, found.bodies(), strict=True):
        places[log["inference_id"]].add((record.partition, log["writer"], log["seq"]))
        if log["seq"] > highest.get(record.partition, -1):
            highest[record.partition] = log["seq"]
        else:
            assert len(places[log["inference_id"]]) == 1, "a number that is not new must be a repeat"
    assert places.keys() == set(ids)
    assert all(len(said) == 1 for said in places.values()), "what is said twice has the same writer and number"
    assert len({log["writer"] for log in found.bodies()}) == 1


async def test_halves_also_come_over_the_topic_and_meet_those_over_http(
    stage: Stage, logger: httpx.AsyncClient, producer: AIOKafkaProducer
) -> None:
    """As a Knative sink writes them; a half that cannot be taken is a dead letter without what it may hold."""
    endpoint, secret, elsewhere = (f"iris-{uuid4().hex[:8]}" for _ in range(3))
    columns = tuple(c.model_copy(update={"sensitive": c.name == "income"}) for c in NUMBERS.columns)
    stage.serve(endpoint, classifier())
    stage.serve(secret, classifier(), NUMBERS.model_copy(update={"columns": columns}))
    stage.serve(elsewhere, classifier(), unit="wealth")
    url, ids = await started(stage), [str(uuid4()) for _ in range(20)]

    async def write(id: str, side: str, name: str = endpoint, body: Any = None) -> None:
        said = event(id, side) | {"ce-inferenceservicename": name}
        headers = [(key.replace("ce-", "ce_", 1), value.encode()) for key, value in said.items()]
        value = orjson.dumps(body or V1[side])
        await producer.send_and_wait("inference.imported", value, key=id.encode(), headers=headers)

    for id in ids:
        await write(id, "request")
        await write(id, "request")
    for id in ids[:10]:
        await write(id, "response")
    bad = [str(uuid4()) for _ in range(3)]
    await write(bad[0], "request", secret, {"instances": [[1.0, 424242.0]]})
    await write(bad[1], "request", elsewhere)
    await write(bad[2], "response", endpoint, {"predictions": ["no"]})
    for id in ids[10:]:
        answer = await logger.post(f"{url}/{endpoint}", headers=event(id, "response"), json=V1["response"])
        assert answer.status_code == 200
    found = await logged(stage, endpoint, 20)
    assert sorted(log["inference_id"] for log in found.bodies()) == sorted(ids)

    async def buried() -> Topic | None:
        letters = await read(stage.operator, "dlq.inference.imported", lambda s: s.get("ce_id", b"").decode() in bad)
        return letters if len(letters.records) == 3 else None

    letters = await eventually(buried, within=40, every=0.3)
    why = {said["ce_id"]: said["__connect.errors.exception.message"] for said in letters.headers()}
    assert "shape" in why[bad[0]] and "business unit" in why[bad[1]] and "label" in why[bad[2]]
    assert not any(b"424242" in value for said, value in zip(letters.headers(), letters.values(), strict=True)
                   if said["ce_id"] == bad[0])  # fmt: skip


async def test_what_is_wrong_is_named_and_strangers_learn_nothing(stage: Stage, logger: httpx.AsyncClient) -> None:
    endpoint, other = f"iris-{uuid4().hex[:8]}", f"iris-{uuid4().hex[:8]}"
    stage.serve(endpoint, classifier())
    stage.serve(other, classifier(), unit="wealth")
    url, id = await started(stage), str(uuid4())
    good, body = event(id, "request"), V1["request"]
    wrong: list[tuple[dict[str, str], Any, str]] = [
        (good | {"ce-type": "org.example"}, body, "ce-type"),
        (good | {"ce-specversion": "0.3"}, body, "binary mode"),
        (good | {"ce-id": "short"}, body, "ce-id"),
        (good | {"ce-time": "2020-01-01T00:00:00Z"}, body, "ce-time"),
        (good, {"rows": []}, "instances"),
        (good, {"instances": [[1.0, 2.0]]}, "shape"),
        (good, {"instances": [{"income": 1.0, "nonsense": 2.0}]}, "nonsense"),
        (event(id, "response"), {"answer": 1}, "predictions"),
        (event(id, "response"), {"predictions": ["no"]}, "label"),
        (event(id, "response"), {"predictions": [{"labels": 1}]}, "labels"),
    ]
    for headers, sent, named in wrong:
        answer = await logger.post(f"{url}/{endpoint}", headers=headers, json=sent)
        assert answer.status_code in (400, 422) and named in answer.text, answer.text
    version = await logger.post(f"{url}/{endpoint}?version=9", headers=good, json=body)
    assert version.status_code == 422 and "version 9" in version.text
    for name in (other, "nowhere"):
        answer = await logger.post(f"{url}/{name}", headers=good, json=body)
        assert (answer.status_code, answer.json()["detail"]) == (404, f"there is no endpoint {name}")
    by_service = await logger.post(url, headers=good | {"ce-inferenceservicename": endpoint}, json=body)
    assert by_service.json() == {"inference_id": id, "state": "waiting"}
    more = await logger.post(f"{url}/{endpoint}", headers=event(id, "response"), json={"predictions": [1, 0]})
    assert more.status_code == 400 and "2 rows" in more.text
    async with httpx.AsyncClient() as stranger:
        nonsense = base64.b64encode(b"x:y").decode()
        for authorization in ({}, {"Authorization": "Basic !"}, {"Authorization": f"Basic {nonsense}"}):
            answer = await stranger.post(f"{url}/{endpoint}", headers=good | authorization, json=body)
            assert answer.status_code == 401


# Without a process


@pytest.fixture
def db(service_db: Callable[[Service], Database]) -> Database:
    return service_db("scorer")


def intake(stage: Stage, db: Database, crowded: frozenset[str] = frozenset()) -> Intake:
    wanted = {name: DeploymentChanged.model_validate(said) for name, said in stage.desired.items()}
    return Intake(db, Tokeniser.of(stage.house.settings.keys), wanted.get, lambda: crowded)


def caller(*units: str) -> Caller:
    return Caller("kserve", "application", frozenset({"application"}), frozenset(units or ("retail",)))


async def half(intake: Intake, name: str, id: str, side: str, body: Any = None, who: Caller | None = None) -> str:
    who = who or caller()
    with use(Context(who)):
        sent = attributes(event(id, side), datetime.now(UTC))
        return await intake.take(who, name, None, sent, orjson.dumps(body or V1[side]))


async def test_a_half_waits_with_its_secrets_as_tokens_and_is_given_up_in_the_end(stage: Stage, db: Database) -> None:
    endpoint = f"iris-{uuid4().hex[:8]}"
    columns = tuple(c.model_copy(update={"sensitive": c.name == "income"}) for c in NUMBERS.columns)
    stage.serve(endpoint, classifier(), NUMBERS.model_copy(update={"columns": columns}))
    taking = intake(stage, db)
    for side in ("request", "response"):
        assert await half(taking, endpoint, f"{endpoint}-{side}", side) == "waiting"
    settings = stage.house.settings.model_copy(update={"kserve_waiting": 2})
    sending = Sending(settings, db, Objects(settings))
    await sending.tidy()
    assert sending.crowded == {endpoint}
    full = intake(stage, db, sending.crowded)
    with pytest.raises(Busy):
        await half(full, endpoint, f"{endpoint}-another", "request")
    with use(Context(system("scorer"))):
        async with db.transaction() as tx:
            kept = b"".join(await tx.session.scalars(text("SELECT request FROM kserve_half WHERE request IS NOT NULL")))
            assert b"tok_" in kept and b"424242" not in kept
            await tx.session.execute(text("UPDATE kserve_half SET came_at = now() - interval '25 hours'"))
    await sending.tidy()
    assert sending.crowded == frozenset()
    with use(Context(caller())):
        found = await taking.figures(caller(), endpoint)
    assert (found.lone_requests, found.lone_responses, found.waiting, found.joined) == (1, 1, 0, 0)
    assert await half(taking, endpoint, f"{endpoint}-request", "response") == "waiting", "it begins anew"


async def test_an_id_belongs_to_the_endpoint_that_first_brought_it(stage: Stage, db: Database) -> None:
    mine, theirs, id = f"iris-{uuid4().hex[:8]}", f"iris-{uuid4().hex[:8]}", str(uuid4())
    stage.serve(mine, classifier())
    stage.serve(theirs, classifier(), unit="wealth")
    taking = intake(stage, db)
    for side in ("request", "response"):
        await half(taking, theirs, id, side, who=caller("wealth"))
    with pytest.raises(Conflict, match="another endpoint"):
        await half(taking, mine, id, "request")


async def test_a_half_is_of_four_mebibytes_at_most_whichever_way_it_comes(stage: Stage, db: Database) -> None:
    """Over the topic, too: what a producer compressed may be far larger than the broker's bound."""
    endpoint = f"iris-{uuid4().hex[:8]}"
    stage.serve(endpoint, classifier())
    with pytest.raises(TooLarge, match="4194304 bytes"):
        await half(intake(stage, db), endpoint, endpoint, "request", V1["request"] | {"more": "x" * 4 * 1024 * 1024})


async def test_few_large_halves_may_not_fill_the_disk_either(stage: Stage, db: Database) -> None:
    endpoint = f"iris-{uuid4().hex[:8]}"
    stage.serve(endpoint, classifier())
    settings = stage.house.settings.model_copy(update={"kserve_waiting_mb": 1})
    sending, large = Sending(settings, db, Objects(settings)), {"instances": [[1.25, 424242.5, 3.75]] * 60_000}
    await half(intake(stage, db), endpoint, f"{endpoint}-small", "request")
    await sending.tidy()
    assert endpoint not in sending.crowded
    await half(intake(stage, db), endpoint, f"{endpoint}-large", "request", large)
    await sending.tidy()
    assert endpoint in sending.crowded


# What bodies say

CODEC = Codec(NUMBERS, "iris", "1", "champion", lambda *_: None)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2, 3], [4, 5, 6]], "signature_name": "x"},
        {"instances": [{"age": 1, "income": 2, "debt": 3}, {"age": 4, "income": 5, "debt": 6}]},
        {"inputs": [{"name": "input-0", "datatype": "FP64", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]},
        {"inputs": [{"name": "X", "datatype": "FP32", "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}], "id": "7"},
    ],
)
def test_requests_of_both_protocols_are_read_by_the_schema(body: dict[str, Any]) -> None:
    read = request_half(orjson.dumps(body), CODEC, NUMBERS)
    (tensor,) = orjson.loads(read.body)["inputs"]
    flat = [value for row in tensor["data"] for value in (row if isinstance(row, list) else [row])]
    assert (read.rows, flat, tensor["name"], tensor["datatype"]) == (2, [1, 2, 3, 4, 5, 6], "X", "FP32")


LABELS = {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]}
SHARES = {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "data": [[0.2, 0.8], [0.9, 0.1]]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"predictions": [1, 0]}, [LABELS]),
        ({"predictions": [1.0, 0.0]}, [LABELS]),
        ({"predictions": [[1], [0]]}, [LABELS]),
        (
            {"predictions": [{"label": 1, "probabilities": [0.2, 0.8]}, {"label": 0, "probabilities": [0.9, 0.1]}]},
            [LABELS, SHARES],
        ),
        ({"outputs": [{"name": "output-0", "datatype": "INT32", "shape": [2, 1], "data": [1, 0]}]}, [LABELS]),
        (
            {"outputs": [
                {"name": "predict", "datatype": "INT64", "shape": [2, 1], "data": [1, 0]},
                {"name": "predict_proba", "datatype": "FP64", "shape": [2, 2], "data": SHARES["data"]},
            ], "model_name": "iris"},
            [LABELS, SHARES],
        ),
    ],
)  # fmt: skip
def test_responses_of_both_protocols_are_read_by_the_schema(body: dict[str, Any], expected: list[Any]) -> None:
    answered, rows = response_half(orjson.dumps(body), "iris", 1, NUMBERS)
    assert (orjson.loads(answered)["outputs"], rows) == (expected, 2)


@pytest.mark.parametrize(
    "body",
    [
        {"predictions": [[0.1, 0.9], [0.8, 0.2]]}, {"predictions": [1.5, 0.5]}, {"predictions": [{"label": 1}, 1]},
        {"predictions": [{"probabilities": [0.1, 0.9]}]}, {"predictions": "no"}, {"predictions": []}, {"outputs": [1]},
        {"outputs": [SHARES | {"name": "a"}, SHARES | {"name": "b"}]}, {"outputs": [LABELS | {"data": None}]}, {},
        {"outputs": [LABELS | {"shape": [1, 1], "data": 5}]}, {"outputs": [LABELS | {"shape": [1, 1], "data": {}}]},
        {"outputs": [LABELS | {"name": ["label"]}]}, {"outputs": [LABELS | {"name": {}}, SHARES]},
    ],
)  # fmt: skip
def test_a_response_that_does_not_fit_the_schema_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        response_half(orjson.dumps(body), "iris", 1, NUMBERS)


def test_a_number_is_predicted_as_a_column_or_as_a_list() -> None:
    schema = ModelSchema(
        inputs=NUMBERS.inputs, outputs=(TensorSpec(name="price", datatype="FP32", shape=(-1, 1)),),
        columns=NUMBERS.columns, prediction="price",
    )  # fmt: skip
    for said in ([[1.5], [2.5]], [1.5, 2.5]):
        answered, rows = response_half(orjson.dumps({"predictions": said}), "p", 1, schema)
        (price,) = orjson.loads(answered)["outputs"]
        assert (price["shape"], rows) == ([2, 1], 2)


def test_attributes_name_what_is_wrong() -> None:
    now = datetime.now(UTC)
    sent = attributes(event("0123456789", "response"), now)
    assert (sent.id, sent.side, sent.service, sent.at) == ("0123456789", "response", "sklearn-iris", AT)
    untimed = {name: value for name, value in event("0123456789", "request").items() if name != "ce-time"}
    assert attributes(untimed, now).at == now
    for name, value in (
        ("ce-id", "größer-als-ascii"),
        ("ce-id", "x" * 101),
        ("ce-time", "2026-03-02"),
        ("ce-type", ""),
    ):
        with pytest.raises(Invalid, match=name):
            attributes(event("0123456789", "request") | {name: value}, now)


@pytest.mark.parametrize("name", ["ce_type", "ce_inferenceservicename", "ce_source"])
async def test_a_header_that_is_null_stops_no_partition(name: str, stage: Stage, db: Database) -> None:
    """Kafka lets headers be null: the record is a dead letter at once, not one that nobody can even reject."""
    said = {key.replace("ce-", "ce_", 1): value.encode() for key, value in event("0123456789", "request").items()}
    record: Any = SimpleNamespace(offset=1, key=b"k", value=b"{}", headers=tuple((said | {name: None}).items()))
    work = ImportWork(
        db, Objects(stage.house.settings), Tokeniser.of(stage.house.settings.keys), lambda _: None, frozenset(),
        intake(stage, db),
    )  # fmt: skip
    added: list[Any] = []
    out: Any = SimpleNamespace(partitions=lambda _: 1, add=lambda *letter: added.append(letter))
    await work.handle(0, [record], out)
    work.reject(0, record, ValueError("whatever"), out)
    assert len(added) == 2


@pytest.mark.parametrize(("source", "told"), [("http://a:9081/", "http://a:9081/"), ("a\0b", "kserve"), ("", "kserve")])
def test_a_source_that_no_reader_of_the_log_could_keep_is_not_repeated(source: str, told: str) -> None:
    assert source_of({"ce-source": source}) == told
