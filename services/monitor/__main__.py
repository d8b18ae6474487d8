"""python -m services.monitor"""

import os

# Its matrices are small: threads of BLAS that wait for one another take far longer than the products themselves.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from services.kit.service import run

from .app import build
from .settings import MonitorSettings

run(build, MonitorSettings)
