"""`python -m services.scorer.batches`: does the batches that wait, and takes in what foreign runtimes inferred."""

import asyncio

from services.kit.again import again
from services.kit.burial import Burial
from services.kit.connections import Connections
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.kafka import Connection
from services.kit.objects import Objects
from services.kit.transactional import TransactionalStream

from ..counters import metering
from ..explanations.forgetting import Forgetting
from ..explanations.gateway import Records
from ..explanations.watching import Watching
from ..health import tell_progress
from ..imports.kserve.usecases import Intake, Sending
from ..imports.work import GROUP, ImportWork
from ..process import BEHIND, run_child
from ..settings import ScorerSettings
from ..tokenise import Tokeniser
from .http import publish, serve
from .inputs import Inputs
from .jobs import Runner
from .places import Places
from .schedules.keeper import Keeper
from .serving import Serving
from .sweeping import Sweeping
from .usecases import Batches


async def main(settings: ScorerSettings, stop: asyncio.Event) -> None:
    """Every part of batches and imports, until told to stop."""
    serving = Serving(settings)
    async with metering(serving.meter, settings, "batches"):
        await _work(settings, stop, serving)


async def _work(settings: ScorerSettings, stop: asyncio.Event, serving: Serving) -> None:
    db = Database(settings.service_database, "scorer")
    objects, progress = Objects(settings), Progress()
    inputs = Inputs.of(settings, objects)
    places = Places(Connections.of(settings))
    batches = Batches(db, objects, inputs, serving.allowed, places)
    runner = Runner(settings, db, objects, inputs, serving, progress)
    tokeniser = Tokeniser.of(settings.keys)
    burial = Burial(settings, "scorer")
    sending = Sending(settings, db, objects)
    intake = Intake(db, tokeniser, serving.wanted, lambda: sending.crowded)
    work = ImportWork(db, objects, tokeniser, serving.wanted, settings.import_units, intake)
    imports = TransactionalStream(
        Connection.read(settings.kafka_properties), work.imported, GROUP, work, work.outputs, progress
    )  # fmt: skip
    watching = Watching(settings, db, objects, Records(settings), burial, progress)
    jobs = (
        again("batches", runner.run, progress), imports.run(), tell_progress(settings.run_folder, "batches", progress),
        again("batches http", lambda: serve(settings, db, inputs, serving, intake, progress), progress),
        again("kserve", sending.run, progress), again("schedules", Keeper(db, places, batches, progress).run, progress),
        again("inputs", Sweeping(db, inputs, progress).run, progress),
        again("explanations", Forgetting(settings, db, burial, progress).run, progress),
        again("attributions", watching.run, progress),
        again("outbox", lambda: publish(settings, db, progress), progress),
    )  # fmt: skip
    tasks = [asyncio.create_task(job) for job in jobs]
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=8)
    await burial.close()
    await db.close()


if __name__ == "__main__":
    run_child("batches", main, nice=BEHIND)
