"""`python -m services.console` runs the console."""

from services.kit.service import run

from .app import build
from .settings import ConsoleSettings

run(build, ConsoleSettings)
