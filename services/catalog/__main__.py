"""python -m services.catalog"""

from services.kit.service import run

from .app import build
from .settings import CatalogSettings

run(build, CatalogSettings)
