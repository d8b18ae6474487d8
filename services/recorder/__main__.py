"""python -m services.recorder"""

from services.kit.service import run

from .app import build
from .settings import RecorderSettings

run(build, RecorderSettings)
