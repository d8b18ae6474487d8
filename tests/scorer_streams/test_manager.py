"""Which streams run: one that fails is told and begins again."""

import asyncio
from pathlib import Path

import orjson

from services.kit.testing import eventually, running
from services.scorer.dataplane import DataPlane
from services.scorer.files import write_atomically
from services.scorer.streams.manager import StreamFollower, Streams
from tests.scorer.making import House, classifier


async def test_a_stream_that_fails_before_it_begins_is_told_and_begins_again(tmp_path: Path) -> None:
    properties = tmp_path / "kafka.properties"
    house = House(tmp_path / "home", kafka_properties=properties)
    change = house.serving("credit", classifier(), streaming=True)
    state = {"caught_up": True, "endpoints": {"credit": orjson.loads(change.to_json())}, "floors": {}}
    write_atomically(house.settings.desired_path, orjson.dumps(state))
    plane, stop = DataPlane(house.settings), asyncio.Event()
    streams = Streams(house.settings, plane, StreamFollower(plane, house.settings))

    def told() -> dict[str, str]:
        path = house.settings.run_folder / "health" / "streams.json"
        return orjson.loads(path.read_bytes())["problems"]

    async with running(streams.run(stop)):
        await eventually(lambda: "kafka.properties" in told()["stream credit"], within=20)
        properties.write_text("bootstrap.servers=127.0.0.1:1\n")
        await eventually(lambda: any("inference.requested" in part for part in told()), within=20)
        stop.set()
