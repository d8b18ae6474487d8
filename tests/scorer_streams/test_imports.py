"""Inferences of foreign runtimes: said again as our own log, once each."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from contracts import DeploymentChanged, InferenceLogged, Service
from services.kit.errors import Invalid
from services.kit.testing import eventually
from services.scorer.imports.domain import check_headers, log_record, parse, variant_of
from services.scorer.v2 import Codec
from tests.scorer.making import NUMBERS, House, classifier

from .conftest import Stage, Topic, read

TOPIC = "inference.imported"
AT = (datetime.now(UTC) - timedelta(hours=3)).replace(microsecond=0)


def imported(id: str, endpoint: str, **more: Any) -> bytes:
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 424242.0, 3.0]}
    label = {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}
    said = {
        "inference_id": id, "endpoint": endpoint, "model": "credit", "version": 1, "application": "mainframe",
        "entity": "customer-9", "received_at": AT.astimezone(timezone(timedelta(hours=1))).isoformat(),
        "latency_ms": 3.5, "request": {"inputs": [tensor]}, "response": {"model_name": endpoint, "outputs": [label]},
    } | more  # fmt: skip
    return orjson.dumps(said)


def headers(id: str, type: str = "inference.imported") -> list[tuple[str, bytes]]:
    said = {"ce_specversion": "1.0", "ce_type": type, "ce_id": id, "ce_source": "/mainframe"}
    return [(name, value.encode()) for name, value in said.items()]


async def logged(stage: Stage, endpoint: str, count: int) -> Topic:
    async def enough() -> Topic | None:
        found = await read(stage.operator, "inference.logged", lambda s: s.get("ce_subject") == endpoint.encode())
        return found if len(found.records) >= count else None

    return await eventually(enough, within=40, every=0.3)


async def dead(stage: Stage, ids: set[str]) -> Topic:
    async def there() -> Topic | None:
        found = await read(stage.operator, f"dlq.{TOPIC}", lambda s: s.get("ce_id", b"").decode() in ids)
        return found if len(found.records) >= len(ids) else None

    return await eventually(there, within=40, every=0.3)


async def test_an_imported_inference_is_logged_once_however_often_it_comes(
    stage: Stage, producer: AIOKafkaProducer, service_url: Callable[[Service], str]
) -> None:
    stage.database = service_url("scorer")
    endpoint = f"legacy-{uuid4().hex[:8]}"
    stage.serve(endpoint, classifier())
    process = stage.start("batches")
    ids = [f"{endpoint}-{i:04}" for i in range(50)]
    for id in [*ids, *ids[:10]]:
        await producer.send(TOPIC, imported(id, endpoint), key=id.encode(), headers=headers(id))
    await producer.flush()
    await logged(stage, endpoint, 50)
    process.kill()
    process.wait()
    stage.start("batches")
    last = f"{endpoint}-last"
    for id in [*ids, last]:
        await producer.send(TOPIC, imported(id, endpoint), key=id.encode(), headers=headers(id))
    await producer.flush()
    found = await logged(stage, endpoint, 51)
    logs = [InferenceLogged.from_json(value) for value in found.values()]
    assert sorted(log.inference_id for log in logs) == sorted([*ids, last])
    one = logs[0]
    assert (one.mode, one.application, one.unit, one.use_case, one.rows) == (
        "imported",
        "mainframe",
        "retail",
        "loans",
        1,
    )
    assert one.received_at == AT and one.writer.startswith("import.")
    assert {said["ce_id"] for said in found.headers()} == {*ids, last}


async def test_what_cannot_be_imported_is_a_dead_letter_with_the_reason(
    stage: Stage, producer: AIOKafkaProducer, service_url: Callable[[Service], str]
) -> None:
    stage.database = service_url("scorer")
    endpoint, run = f"legacy-{uuid4().hex[:8]}", uuid4().hex[:8]
    stage.serve(endpoint, classifier())
    stage.start("batches")
    wrong = {
        "json": (b"{", "inference.imported", "JSON"),
        "unknown": (imported(f"{run}-unknown", "nowhere"), "inference.imported", "nowhere"),
        "rows": (imported(f"{run}-rows1", endpoint, request={"inputs": []}), "inference.imported", "request: `inputs`"),
        "type": (imported(f"{run}-type1", endpoint), "inference.logged", "ce_type"),
        "short": (imported("x", endpoint), "inference.imported", "inference_id"),
        "nothing": (None, "inference.imported", "JSON"),
    }  # fmt: skip
    for name, (value, type, _) in wrong.items():
        await producer.send(TOPIC, value, key=b"k", headers=headers(f"{run}-{name}", type))
    await producer.flush()
    letters = await dead(stage, {f"{run}-{name}" for name in wrong})
    values = {said["ce_id"]: value for said, value in zip(letters.headers(), letters.values(), strict=True)}
    assert b"withheld" in values[f"{run}-json"]  # what is no JSON may hold anything
    assert values[f"{run}-unknown"] == wrong["unknown"][0]  # it only came too early, and can be replayed
    for said in letters.headers():
        named = wrong[said["ce_id"].removeprefix(f"{run}-")][2]
        assert named in said["__connect.errors.exception.message"], said
    assert not (
        await read(stage.operator, "inference.logged", lambda s: s.get("ce_subject") == endpoint.encode())
    ).records


async def test_sensitive_columns_of_imports_are_tokenised(
    stage: Stage, producer: AIOKafkaProducer, service_url: Callable[[Service], str]
) -> None:
    stage.database = service_url("scorer")
    endpoint = f"legacy-{uuid4().hex[:8]}"
    columns = tuple(c.model_copy(update={"sensitive": c.name == "income"}) for c in NUMBERS.columns)
    stage.serve(endpoint, classifier(), NUMBERS.model_copy(update={"columns": columns}))
    stage.start("batches")
    await producer.send_and_wait(TOPIC, imported(f"{endpoint}-1", endpoint), headers=headers(f"{endpoint}-1"))
    found = await logged(stage, endpoint, 1)
    [value] = found.values()
    assert b"tok_" in value and b"424242" not in value


async def test_an_endpoint_cannot_silence_another_s_inferences_by_their_ids(
    stage: Stage, producer: AIOKafkaProducer, service_url: Callable[[Service], str]
) -> None:
    stage.database = service_url("scorer")
    mine, theirs = f"legacy-{uuid4().hex[:8]}", f"legacy-{uuid4().hex[:8]}"
    stage.serve(mine, classifier())
    stage.serve(theirs, classifier(), unit="wealth")
    stage.start("batches", FAIRLEAD_IMPORT_UNITS='["retail", "wealth"]')
    id = f"{mine}-0001"
    for endpoint in (theirs, mine):
        await producer.send_and_wait(TOPIC, imported(id, endpoint), key=id.encode(), headers=headers(id))
    await logged(stage, theirs, 1)
    (letter,) = (await dead(stage, {id})).headers()
    assert "another endpoint" in letter["__connect.errors.exception.message"]


# What a record must be, without a broker

HOUSE_UNIT = "retail"
TENSOR = {"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}
LABEL = {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}
STOLEN = {"digest": "sha256:" + "0" * 64, "media_type": "application/json", "first_row": 0, "rows": 1}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> DeploymentChanged:
    return House(tmp_path_factory.mktemp("imports") / "home").serving("legacy", classifier())


def taken(
    endpoint: DeploymentChanged, value: bytes, units: tuple[str, ...] = ("retail",), /, **said: str
) -> InferenceLogged:  # fmt: skip
    """The log that a record becomes. Raises Invalid."""
    plain = {"ce_specversion": "1.0", "ce_type": "inference.imported", "ce_id": "1", "ce_source": "/m"}
    given = {name: content.encode() for name, content in (plain | said).items()}
    check_headers(given)
    event = parse(value, datetime.now(UTC))
    variant = variant_of(event, endpoint if event.endpoint == "legacy" else None, given, units)
    codec = Codec(variant.model_schema, "legacy", "1", "champion", lambda column, value: "tok")
    return InferenceLogged.from_json(log_record(event, endpoint, variant, codec).value("w", 1))


def test_a_whole_record_is_taken_and_says_nothing_that_was_not_checked(served: DeploymentChanged) -> None:
    value = imported(
        "legacy-01", "legacy", request={"inputs": [TENSOR], "reference": STOLEN},
        response={"outputs": [LABEL], "reference": STOLEN, "model_name": "other"},
    )  # fmt: skip
    log = taken(served, value, ce_unit="retail", ce_dataschema="urn:fairlead:schema:inference.imported:1")
    assert (log.unit, log.variant, log.model, log.rows) == (HOUSE_UNIT, "champion", "credit", 1)
    assert log.request == {"inputs": [TENSOR]}
    assert log.response == {"model_name": "legacy", "model_version": "1", "outputs": [LABEL]}


def test_an_endpoint_of_a_unit_that_may_not_write_the_topic_takes_no_imports(served: DeploymentChanged) -> None:
    with pytest.raises(Invalid, match="whose inferences are not imported"):
        taken(served, imported("legacy-01", "legacy"), ("wealth",))


@pytest.mark.parametrize(
    ("more", "said", "names"),
    [
        ({}, {"ce_specversion": "0.3"}, "ce_specversion"), ({}, {"ce_type": "inference.logged"}, "ce_type"),
        ({}, {"ce_dataschema": "urn:fairlead:schema:inference.imported:2"}, "ce_dataschema"),
        ({}, {"ce_unit": "wealth"}, "ce_unit"), ({"endpoint": "../x"}, {}, "endpoint"),
        ({"endpoint": "other"}, {}, "other"),
        ({"version": 2}, {}, "version 2"), ({"version": "1"}, {}, "version"), ({"version": True}, {}, "version"),
        ({"model": "other"}, {}, "other"), ({"application": ""}, {}, "application"),
        ({"application": "a\nb"}, {}, "application"), ({"entity": "x" * 300}, {}, "entity"),
        ({"received_at": "2026-11-24T09:00:00"}, {}, "time zone"),
        ({"received_at": "1999-01-01T00:00:00Z"}, {}, "received_at"),
        ({"received_at": "2999-01-01T00:00:00Z"}, {}, "received_at"), ({"latency_ms": -1}, {}, "latency_ms"),
        ({"latency_ms": "3"}, {}, "latency_ms"), ({"inference_id": "a\0b\0c\0d\0"}, {}, "inference_id"),
        ({"request": {"inputs": [TENSOR], "id": 7}}, {}, "request: `id`"),
        ({"request": {"reference": STOLEN}}, {}, "request"),
        ({"request": {"inputs": [TENSOR | {"shape": [10**6, 3]}]}}, {}, "request"),
        ({"request": {"inputs": [TENSOR | {"data": ["1", 2, 3]}]}}, {}, "'age'"), ({"response": {}}, {}, "outputs"),
        ({"response": {"outputs": [LABEL | {"shape": [2], "data": [1, 1]}]}}, {}, "2 rows"),
        ({"response": {"outputs": [LABEL | {"data": [1.5]}]}}, {}, "'label'"),
        ({"response": {"outputs": []}}, {}, "'label'"), ({"response": {"outputs": [LABEL, LABEL]}}, {}, "twice"),
        ({"response": {"outputs": [LABEL | {"name": []}]}}, {}, "response"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    served: DeploymentChanged, more: dict[str, Any], said: dict[str, str], names: str
) -> None:
    with pytest.raises(Invalid) as refused:
        taken(served, imported("legacy-01", **({"endpoint": "legacy"} | more)), **said)
    assert names in refused.value.message


@pytest.mark.parametrize("value", [b'{"a":1,"a":2}', b"[]", b'{"x":NaN}', b"[" * 100_000, b" " * 5_000_000])
def test_what_is_no_record_is_refused(served: DeploymentChanged, value: bytes) -> None:
    with pytest.raises(Invalid):
        taken(served, value)
