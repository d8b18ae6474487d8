"""Run the retrainer."""

from services.kit.service import run

from .app import build
from .settings import RetrainerSettings

run(build, RetrainerSettings)
