"""`python -m services.scorer.streams`: the streaming endpoints of a scorer host."""

import asyncio

from ..dataplane import DataPlane
from ..process import run_child
from ..settings import ScorerSettings
from .manager import StreamFollower, Streams


async def main(settings: ScorerSettings, stop: asyncio.Event) -> None:
    plane = DataPlane(settings)
    await Streams(settings, plane, StreamFollower(plane, settings)).run(stop)


if __name__ == "__main__":
    run_child("streams", main)
