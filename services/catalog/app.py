"""The catalog, put together."""

from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.service import Parts

from . import api
from .handlers import subscriptions
from .intake import Intake
from .jobs import InspectCandidates
from .settings import CatalogSettings
from .usecases import Candidates, Catalog

_FORM_BYTES = 16 * 1024 * 1024
"""Room for the form around a package of the largest size."""


def build(settings: CatalogSettings) -> Parts:
    """Every part of the service; nothing runs yet."""
    db, progress = Database(settings.service_database, "catalog"), Progress()
    objects = Objects(settings)
    intake = Intake(settings, objects)
    catalog, candidates = Catalog(db, intake), Candidates(db, intake)
    return Parts(
        service="catalog",
        settings=settings,
        db=db,
        routers=[api.router(catalog, settings.max_package_bytes)],
        subscriptions=subscriptions(catalog, candidates),
        jobs=[InspectCandidates(candidates, progress).run],
        progress=progress,
        large_bodies={"/v1/models": settings.max_package_bytes + _FORM_BYTES},
    )
