"""A log that is not carried away: within its bound, refused or dropped as the operator chose, never in memory; told."""

import asyncio
import socket
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from prometheus_client import REGISTRY

from services.kit.ids import uuid7_text
from services.kit.producer import Producer
from services.kit.testing import eventually, running
from services.scorer.forwarder import Forwarder, Slot
from services.scorer.logrecord import Origin, RecordBuilder
from services.scorer.spool import Spool
from services.scorer.spool.writer import checkpoint

from .living import Worker, rows
from .making import House, classifier

BODY = rows(*[[1.0, 2.0, 3.0]] * 200)


def counted(worker: Worker, name: str) -> float:
    lines = worker.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"fairlead_scorer_{name}_total{{"))


@pytest.mark.parametrize(("policy", "status"), [("", 503), ("drop", 200)])
def test_beyond_the_spool_s_bound_nothing_is_answered_unless_the_operator_lets_it_be_dropped_and_counted(
    tmp_path: Path, policy: str, status: int
) -> None:
    house = House(tmp_path / "home")
    policies = {"FAIRLEAD_SPOOL_FULL": policy} if policy else {}
    with Worker(house, FAIRLEAD_SPOOL_BYTES="40000", FAIRLEAD_SPOOL_SEGMENT_BYTES="10000", **policies) as worker:
        worker.deploy(house.serving("credit", classifier()))
        answers = [worker.infer("credit", BODY, house.token()) for _ in range(40)]
        accepted = sum(answer.status_code == 200 for answer in answers)
        assert {answer.status_code for answer in answers} == {200, status}
        spooled = len(worker.spooled())
        assert (counted(worker, "inferences"), counted(worker, "refused")) == (accepted, 40 - accepted)
        assert 0 < spooled < 40 and counted(worker, "spooled") == spooled
        assert accepted - spooled == counted(worker, "dropped") == (40 - spooled if policy else 0)
        assert "spool" in worker.get("/readyz").json()["problems"]
        if status == 503:
            assert answers[-1].headers["retry-after"] and "log" in answers[-1].json()["error"]


class SlowKafka(Producer):
    """Takes what it is given when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.in_hand = 0

    async def write(self, topic: str, records: object) -> None:
        self.in_hand = sum(len(value or b"") for _, value, _ in records)  # pyright: ignore[reportGeneralTypeIssues]
        await self.go_on.wait()


def spooled(house: House, count: int, slot: int = 0, size: int = 10_000) -> Spool:
    """A slot's spool with so many records of twice `size` bytes of payload."""
    builder = RecordBuilder(Origin("credit", "retail", "loans", "credit", 1, "champion"))
    spool = Spool(house.settings.spool_folder / str(slot), limit=1 << 30, segment_bytes=1 << 24, fsync="none")
    for _ in range(count):
        record = builder.record(
            inference_id=uuid7_text(), mode="rest", application="application", received_at=datetime.now(UTC),
            latency_ms=1.0, rows=1, request=b"x" * size, response=b"y" * size,
        )  # fmt: skip
        spool.append(record.to_spool())
    return spool


async def test_what_waits_is_told_while_a_broker_takes_connections_and_says_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        properties = tmp_path / "kafka.properties"
        properties.write_text(f"bootstrap.servers=127.0.0.1:{silent.getsockname()[1]}\n")
        house = House(tmp_path / "home", kafka_properties=properties)
        spool, told = spooled(house, 10), house.settings.run_folder / "forwarder.json"

        def shown(records: int) -> bool:
            found = REGISTRY.get_sample_value("fairlead_scorer_spool_backlog_bytes", {"slot": "0"})
            return found is not None and records * 20_000 < found < (records + 1) * 20_000

        async with running(Forwarder(house.settings).run(asyncio.Event())):
            await eventually(lambda: shown(10), within=20)
            spool.close()
            spooled(house, 10).close()
            await eventually(lambda: shown(20), within=20)
            first = orjson.loads(told.read_bytes())["at"]
            await eventually(lambda: orjson.loads(told.read_bytes())["at"] > first, within=20)


async def test_behind_a_broker_that_takes_nothing_a_spool_of_any_size_takes_a_piece_of_memory(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    spool = spooled(house, 2_000)
    forwarder, kafka, slot = Forwarder(house.settings), SlowKafka(), Slot(spool.folder)
    forwarding = asyncio.create_task(forwarder._forward(slot, kafka))
    while not kafka.in_hand:
        await asyncio.sleep(0)
    assert spool.used > 30 * kafka.in_hand and kafka.in_hand < 2_000_000
    assert not forwarding.done() and slot.seq == 0, "what Kafka did not take is not behind"
    kafka.go_on.set()
    assert await forwarding > 0 and slot.seq > 0
    spool.close()


async def test_a_payload_that_waits_for_the_object_store_holds_up_its_own_slot_alone(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    large, small = spooled(house, 1, slot=0, size=400_000), spooled(house, 5, slot=1)
    told, stored = house.settings.run_folder / "forwarder.json", tmp_path / "home" / "objects" / "sha256"
    forwarder, kafka = Forwarder(house.settings), SlowKafka()
    kafka.go_on.set()
    stored.write_text("no folder")
    for _ in range(3):
        await forwarder._round(kafka)
    assert [checkpoint(spool.folder)[2] for spool in (large, small)] == [0, small.seq]
    forwarder._look_for_slots()
    assert "slot 0 waits: the object store" in orjson.loads(told.read_bytes())["failing"]
    stored.unlink()

    async def carried() -> bool:
        await forwarder._round(kafka)
        return checkpoint(large.folder)[2] == large.seq

    assert await eventually(carried, within=20)
    forwarder._look_for_slots()
    assert orjson.loads(told.read_bytes())["failing"] == ""
    large.close()
    small.close()
