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
from .jobs import Forgetting, Inferences, Joins, Observed, Outcomes, Tidying
from .settings import RecorderSettings
from .usecases.compaction import Compaction
from .usecases.erasing import Erasing
from .usecases.filing import Filing
from .usecases.joining import Joining
from .usecases.keys import entity_key
from .usecases.reading import Reading
from .usecases.recording import Recording
from .usecases.remaining import Kept
from .usecases.retention import Retention
from .usecases.rewriting import Rewriting
from .usecases.schemas import Schemas
from .usecases.snapshots import Snapshots
from .usecases.upkeep import Upkeep
from .usecases.withdrawing import Withdrawing


def build(settings: RecorderSettings) -> Parts:
    """The recorder's parts."""
    db, key = Database(settings.service_database, "recorder"), entity_key(settings.keys)
    objects, files, progress = Objects(settings), Files(settings.recorded), Progress()
    schemas, burial, upkeep = Schemas(db), Burial(settings, "recorder"), Upkeep(db, files, objects)
    payloads = Payloads(objects, settings.home / "run" / "recorder")
    recording = Recording(db, files, schemas, payloads, burial, key)
    joining = Joining(db, files, schemas, burial, settings.outcome_units)
    snapshots = Snapshots(db, files, objects, settings.snapshot_rows)
    windows, decisions = timedelta(days=settings.windows_kept_days), timedelta(days=settings.decisions_kept_days)
    kept = Kept(windows, timedelta(seconds=settings.spool_turns_s + 60), explanations=decisions)
    rewriting = Rewriting(db, files, upkeep)
    withdrawing = Withdrawing(db, rewriting)
    erasing = Erasing(db, rewriting, withdrawing, upkeep, snapshots, key, kept)
    retention = Retention(db, upkeep, decisions)
    after = timedelta(minutes=settings.compact_after_minutes)
    compaction = Compaction(db, files, upkeep, settings.compacted_mb * 2**20, after)
    return Parts(
        service="recorder",
        settings=settings,
        db=db,
        routers=[api.router(Reading(db, files), joining, snapshots, erasing)],
        jobs=[
            Following(settings, DeploymentChanged, schemas.learn, progress).run,
            Inferences(settings, db, recording, upkeep, burial, progress).run,
            Outcomes(settings, db, joining, burial, progress).run,
            Joins(settings, joining, recording, progress).run,
            Observed(settings, db, Filing(files, burial), upkeep, burial, progress).run,
            Tidying(settings, joining, retention, withdrawing, compaction, upkeep, progress).run,
            Forgetting(erasing, progress).run,
        ],
        closing=[burial.close],
        progress=progress,
    )
