"""Run the governor."""

from services.kit.service import run

from .app import build
from .settings import GovernorSettings

run(build, GovernorSettings)
