"""The catalog, put together."""

from services.kit.db import Database
from services.kit.objects import Objects
from services.kit.service import Parts

from . import api
from .handlers import subscriptions
from .intake import Intake
from .settings import CatalogSettings
from .usecases import Catalog

_FORM_BYTES = 16 * 1024 * 1024
"""Room for the form around a package of the largest size."""


def build(settings: CatalogSettings) -> Parts:
    db = Database(settings.service_database, "catalog")
    objects = Objects(settings)
    catalog = Catalog(db, Intake(settings, objects))
    return Parts(
        service="catalog",
        settings=settings,
        db=db,
        routers=[api.router(catalog, objects, settings.max_package_bytes)],
        subscriptions=subscriptions(catalog),
        large_bodies={"/v1/models": settings.max_package_bytes + _FORM_BYTES},
    )
