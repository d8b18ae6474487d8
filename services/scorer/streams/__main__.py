"""`python -m services.scorer.streams`: the streaming endpoints of a scorer host."""

import asyncio

from services.kit.collector import settle

from ..counters import metering
from ..dataplane import DataPlane
from ..process import run_child
from ..settings import ScorerSettings
from .manager import StreamFollower, Streams


async def main(settings: ScorerSettings, stop: asyncio.Event) -> None:
    """Every streaming endpoint, until told to stop."""
    # A micro-batch makes tens of thousands of objects that live as long as it does, and no cycles: looking through
    # them again and again is a good part of the work.
    settle(200_000, 20, 50)
    plane = DataPlane(settings)
    async with metering(plane.meter, settings, "streams", plane.residency):
        await Streams(settings, plane, StreamFollower(plane, settings)).run(stop)


if __name__ == "__main__":
    run_child("streams", main)
