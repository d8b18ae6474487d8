"""Streams of an endpoint with several versions: each record by its entity, copies for a shadow, and who stands in."""

import asyncio
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

from contracts import Cohorts, InferenceLogged, Routing
from services.kit.testing import eventually
from services.scorer.routing import Shares
from tests.scorer.making import classifier, fragile, package

from .conftest import Stage, headers, read, request
from .test_streams import MakeEndpoint, completed, logged


async def test_a_stream_is_shared_out_by_entity_copied_to_the_shadow_and_answered_where_a_version_fails(
    stage: Stage, streaming: MakeEndpoint, producer: AIOKafkaProducer
) -> None:
    endpoint = streaming()
    house = stage.house
    models = {1: classifier(), 2: fragile(), 3: classifier(bias=3.0)}
    digests = {version: house.keep(package(model)) for version, model in models.items()}
    champion = house.variant(endpoint, digests[1], 1)
    half = (Cohorts(first=0, last=4999),)
    b = house.variant(endpoint, digests[2], 2, name="b", cohorts=half, weight=0.5)
    shadow = house.variant(endpoint, digests[3], 3, name="challenger", role="shadow", weight=0.0)
    routing = Routing(strategy="ab", salt="s", since=datetime.now(UTC))
    stage.say(house.change(endpoint, champion, b, shadow, revision=2, routing=routing, streaming=True))
    stage.start("streams")
    stage.start("forwarder")
    router = Shares(routing, [champion, b])
    entities = [f"person-{n}" for n in range(40)]
    sent = [
        await producer.send(
            f"inference.requested.{endpoint}", request([first, 1.0, 1.0], parameters={"entity": entity}),
            key=entity.encode(), headers=headers(f"{entity}/{first}"),
        )
        for entity in entities
        for first in (1.0, 100.0)
    ]  # fmt: skip
    await asyncio.gather(*sent)
    answers = await completed(stage, endpoint, 80)
    told = {
        (said["ce_requestid"]): (int(body["model_version"]), body["parameters"]["variant"])
        for said, body in zip(answers.headers(), answers.bodies(), strict=True)
    }
    chosen = {entity: router.version(entity, None, "") for entity in entities}
    assert set(chosen.values()) == {1, 2}
    names = {1: (1, "champion"), 2: (2, "b")}
    assert {entity: told[f"{entity}/1.0"] for entity in entities} == {e: names[v] for e, v in chosen.items()}
    assert {told[f"{entity}/100.0"] for entity in entities} == {names[1]}  # where b fails the champion answers
    for partition in {record.partition for record in answers.records}:
        keys = [(r.key or b"").decode() for r in answers.records if r.partition == partition]
        assert keys == [key for key in dict.fromkeys(keys) for _ in range(2)]  # in the order of their requests

    async def copied() -> bool:
        return sum("shadow_of" in body for body in (await logged(stage, endpoint)).bodies()) == 80

    await eventually(copied, within=30, every=0.5)
    entries = [InferenceLogged.model_validate(body) for body in (await logged(stage, endpoint)).bodies()]
    real = {entry.inference_id: entry for entry in entries if entry.shadow_of is None}
    copies = {entry.shadow_of: entry for entry in entries if entry.shadow_of is not None}
    assert copies.keys() == real.keys()
    assert len(real) == 80
    assert all((c.version, c.entity, c.mode) == (3, real[id].entity, "stream") for id, c in copies.items() if id)
    told = {id: (c.answered.version, c.answered.response) for id, c in copies.items() if id and c.answered}
    assert told == {id: (entry.version, entry.response) for id, entry in real.items()}
    instead = sorted(entry.entity or "" for entry in real.values() if entry.instead_of == "b")
    assert instead == sorted(entity for entity, version in chosen.items() if version == 2)
    assert (await read(stage.operator, f"dlq.inference.requested.{endpoint}")).records == []
