"""python -m services.monitor"""

from services.kit.service import run

from .app import build
from .settings import MonitorSettings

run(build, MonitorSettings)
