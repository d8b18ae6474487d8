"""Wires the recorder."""

from services.kit.burial import Burial
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.payloads import Payloads
from services.kit.service import Parts

from . import api
from .files import Files
from .jobs import Following, Streams
from .settings import RecorderSettings
from .usecases import Outcomes, Reading, Recording, Schemas


def build(settings: RecorderSettings) -> Parts:
    db, objects, progress = Database(settings.service_database, "recorder"), Objects(settings), Progress()
    schemas, files = Schemas(db), Files(settings)
    outcomes = Outcomes(settings, files, schemas)
    recording = Recording(schemas, files, Payloads(objects), outcomes, Burial(settings, "recorder"))
    following = Following(settings, schemas)
    streams = Streams(settings, db, recording, following, progress)
    return Parts(
        service="recorder",
        settings=settings,
        db=db,
        routers=[api.router(Reading(db, files, objects, outcomes))],
        jobs=[following.run, streams.inferences, streams.outcomes],
        progress=progress,
    )
