"""`python -m services.scorer.rpc`: answers gRPC with a data plane and a slot of the spool of its own."""

import asyncio

import grpc.aio

from services.kit.telemetry import get_logger

from ..asgi import ScorerApp
from ..counters import metering
from ..dataplane import DataPlane
from ..follower import Follower
from ..process import fatal, run_child
from ..settings import ScorerSettings
from ..spool import Spool
from ..worker import keep_synced
from .service import Calls

log = get_logger(__name__)

_PROCESS = "rpc"
_GRACE_S = 10.0


async def main(settings: ScorerSettings, stop: asyncio.Event) -> None:
    """Serve until told to stop: then what is in hand is finished."""
    spool = Spool(
        settings.spool_folder / str(settings.workers), limit=settings.slot_bytes,
        segment_bytes=settings.spool_segment_bytes, fsync=settings.fsync,
    )  # fmt: skip
    plane = DataPlane(settings)
    follower = Follower(plane, settings, _PROCESS)
    app = ScorerApp(settings, _PROCESS, plane, spool, follower)
    jobs = (follower.run(), keep_synced(spool, settings), spool.keep_turned(settings.spool_turns_s))
    work = [asyncio.create_task(one) for one in jobs]
    for task in work:
        task.add_done_callback(fatal)
    await follower.settled(settings.cold_load_s)
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", settings.max_body_bytes), ("grpc.so_reuseport", 0)]
    )
    server.add_generic_rpc_handlers((Calls(app).handler(),))
    server.add_insecure_port(f"{settings.host}:{settings.grpc_port}")
    await server.start()
    log.info("serving gRPC", port=settings.grpc_port, endpoints=len(plane.endpoints))
    try:
        async with metering(plane.meter, settings, _PROCESS, plane.residency):
            await stop.wait()
            await server.stop(_GRACE_S)
    finally:
        for task in work:
            task.cancel()
        spool.close()


if __name__ == "__main__":
    run_child(_PROCESS, main)
