"""The recorder, put together."""

from datetime import timedelta

from contracts import DeploymentChanged
from services.kit.burial import Burial
from services.kit.compacted import Following
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.payloads import Payloads
from services.kit.service import Parts

from . import api
from .files import Files
from .jobs import Inferences, Joins, Outcomes, Tidying
from .settings import RecorderSettings
from .usecases.joining import Joining
from .usecases.reading import Reading
from .usecases.recording import Recording
from .usecases.retention import Retention
from .usecases.schemas import Schemas
from .usecases.snapshots import Snapshots


def build(settings: RecorderSettings) -> Parts:
    """The recorder's parts."""
    db = Database(settings.service_database, "recorder")
    objects, files, progress = Objects(settings), Files(settings.inferences), Progress()
    schemas, burial = Schemas(db), Burial(settings, "recorder")
    recording = Recording(db, files, schemas, Payloads(objects, settings.home / "run" / "recorder"), burial)
    joining = Joining(db, files, schemas, burial, settings.outcome_units)
    return Parts(
        service="recorder",
        settings=settings,
        db=db,
        routers=[api.router(Reading(db, files), joining, Snapshots(db, files, objects, settings.snapshot_rows))],
        jobs=[
            Following(settings, DeploymentChanged, schemas.learn, progress).run,
            Inferences(settings, db, recording, burial, progress).run,
            Outcomes(settings, db, joining, burial, progress).run,
            Joins(settings, joining, recording, progress).run,
            Tidying(
                settings, joining, Retention(db, files, timedelta(days=settings.decisions_kept_days)), progress
            ).run,
        ],
        closing=[burial.close],
        progress=progress,
    )
