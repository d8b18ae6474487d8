"""Whole platforms for tests, started and stopped as a user does it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded.home import ROOT
from deploy.embedded.standalone import free_home


@contextmanager
def started_house(**settings: str) -> Iterator[Path]:
    """A platform with these variables in its environment; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="fairlead-house-", ignore_cleanup_errors=True) as folder:
        home = free_home(Path(folder))
        environment = os.environ | settings | {"FAIRLEAD_HOME": folder, "FAIRLEAD_PORT": str(home.port)}
        launcher = [sys.executable, "-m", "deploy.embedded"]
        try:
            subprocess.run([*launcher, "up"], env=environment, cwd=ROOT, check=True, timeout=170)
            yield Path(folder)
        finally:
            subprocess.run([*launcher, "down"], env=environment, cwd=ROOT, check=False, timeout=120)
