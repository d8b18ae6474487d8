"""A scorer host: python -m services.scorer."""

import asyncio

from services.kit.settings import from_environment
from services.kit.telemetry import configure_logging

from .host import run
from .settings import ScorerSettings

if __name__ == "__main__":
    settings = from_environment(ScorerSettings)
    configure_logging("scorer", settings.log_level)
    asyncio.run(run(settings))
