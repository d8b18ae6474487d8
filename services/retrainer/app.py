"""Wires the retrainer."""

from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.service import Parts

from . import api
from .gateway import Governor, Recorder
from .handlers import subscriptions
from .jobs import Queue
from .settings import RetrainerSettings
from .usecases import Retrainer
from .workshop import Workshop


def build(settings: RetrainerSettings) -> Parts:
    """The retrainer's parts."""
    db = Database(settings.service_database, "retrainer")
    retrainer = Retrainer(db, Workshop(settings, Objects(settings), Recorder(settings)))
    progress = Progress()
    return Parts(
        service="retrainer",
        settings=settings,
        db=db,
        routers=[api.router(retrainer, Governor(settings))],
        subscriptions=subscriptions(retrainer),
        jobs=[Queue(retrainer, progress).run],
        progress=progress,
    )
