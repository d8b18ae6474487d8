"""One worker process: answers HTTP on the host's socket, logs into its own slot of the spool, never speaks Kafka."""

import asyncio
import os
import socket

import uvicorn
import uvloop

from services.kit.collector import settle
from services.kit.telemetry import configure_logging, get_logger

from . import metrics
from .asgi import ScorerApp
from .counters import metering
from .dataplane import DataPlane
from .direct import DirectProtocol
from .draining import DrainingServer
from .follower import Follower
from .process import fatal, follow_parent
from .settings import ScorerSettings
from .spool import Spool, SpoolFull

log = get_logger(__name__)


def main() -> None:
    """One worker in the slot that its environment names."""
    follow_parent()
    settings = ScorerSettings()
    configure_logging("scorer", settings.log_level)
    listening = socket.socket(fileno=int(os.environ["FAIRLEAD_LISTEN_FD"]))
    uvloop.run(serve(settings, int(os.environ["FAIRLEAD_SLOT"]), listening))


async def serve(settings: ScorerSettings, slot: int, listening: socket.socket) -> None:
    """Serve until SIGTERM: then what is in hand is finished, and the rest of the spool is the forwarder's."""
    process = f"worker-{slot}"
    spool = Spool(
        settings.spool_folder / str(slot), limit=settings.slot_bytes,
        segment_bytes=settings.spool_segment_bytes, fsync=settings.fsync,
    )  # fmt: skip
    plane = DataPlane(settings)
    follower = Follower(plane, settings, process)
    app = ScorerApp(settings, process, plane, spool, follower)
    config = uvicorn.Config(
        app, http=DirectProtocol, loop="none", ws="none", lifespan="off", interface="asgi3", log_config=None,
        access_log=False, log_level="warning", server_header=False, proxy_headers=False, backlog=2048,
        timeout_graceful_shutdown=10,
    )  # fmt: skip
    work = [
        asyncio.create_task(one)
        for one in (
            follower.run(), metrics.publish(settings.run_folder, process), keep_synced(spool, settings),
            spool.keep_turned(settings.spool_turns_s),
        )
    ]  # fmt: skip
    for task in work:
        task.add_done_callback(fatal)
    await follower.settled(settings.cold_load_s)  # before the first request: a caller who waits is not refused
    settle()
    log.info("serving", process=process, endpoints=len(plane.endpoints), torn_bytes=spool.torn_bytes)
    try:
        async with metering(plane.meter, settings, process, plane.residency):
            await DrainingServer(config).serve(sockets=[listening])
    finally:
        for task in work:
            task.cancel()
        spool.close()


async def keep_synced(spool: Spool, settings: ScorerSettings) -> None:
    """On disk at the interval that is set. With `always` each record has its own: a disk that failed is tried again."""
    while settings.fsync != "none":
        await asyncio.sleep(settings.fsync_interval_ms / 1000)
        try:
            await spool.sync()
        except SpoolFull as full:
            log.error("the spool takes nothing", reason=full.message)


if __name__ == "__main__":
    main()
