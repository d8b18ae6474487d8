"""Batches' own small service on a loopback port of its own: the workers pass `/v1/batches` on to it and stay lean."""

import asyncio
import socket

import uvicorn

from services.kit.auth import Verifier
from services.kit.connections import Connections
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.outbox import Relay, tidy
from services.kit.plain_http import PlainHttp
from services.kit.service import Parts, application
from services.kit.turns import Turns

from ..explanations.api import router as explanations
from ..explanations.gateway import Records
from ..explanations.usecases import Explainer
from ..files import write_atomically
from ..imports.kserve.api import router as kserve
from ..imports.kserve.usecases import Intake
from ..settings import ScorerSettings
from .api import PATH, router
from .inputs import Inputs
from .places import Places
from .schedules.api import router as schedules
from .schedules.usecases import Schedules
from .serving import Serving
from .usecases import LARGEST_BYTES, Batches


def parts(
    settings: ScorerSettings, db: Database, inputs: Inputs, serving: Serving, intake: Intake, progress: Progress
) -> Parts:
    """What is answered here. Explanations, too: they are slow, and no business of a worker that answers at once."""
    objects, places = Objects(settings), Places(Connections.of(settings))
    turns = Turns("files", settings.batch_uploads, settings.batch_uploads_each)
    batches = Batches(db, objects, inputs, serving.allowed, places)
    explainer = Explainer(settings, db, objects, Records(settings))
    explaining = Turns("explanations", settings.explanations, settings.explanations_each)
    return Parts(
        service="scorer", settings=settings, db=db, progress=progress,
        routers=[
            schedules(Schedules(db, serving.allowed, places)), router(batches, turns),
            explanations(explainer, explaining), kserve(intake, Verifier(settings)),
        ],
        large_bodies={PATH: LARGEST_BYTES},
    )  # fmt: skip


async def serve(
    settings: ScorerSettings, db: Database, inputs: Inputs, serving: Serving, intake: Intake, progress: Progress
) -> None:
    """Answer until cancelled."""
    app = application(parts(settings, db, inputs, serving, intake, progress))
    config = uvicorn.Config(
        app, http=PlainHttp, loop="none", log_config=None, log_level="warning", access_log=False, lifespan="off",
        server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    write_atomically(settings.batches_port_path, b"%d" % listening.getsockname()[1])
    try:
        # serve() would take the signal handlers for itself.
        await server._serve([listening])  # pyright: ignore[reportPrivateUsage]
    finally:
        settings.batches_port_path.unlink(missing_ok=True)  # another process may have the port next
        listening.close()


async def publish(settings: ScorerSettings, db: Database, progress: Progress) -> None:
    """The outbox of the scorer's transactions: audit rows of batches."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Relay(settings, db, progress).run())
        tasks.create_task(tidy(db))
