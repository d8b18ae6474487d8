"""What tests start: whole platforms, as a user does it, and brokers with all that services need of one."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded import kafka, secrets
from deploy.embedded.home import ROOT, Home
from deploy.embedded.standalone import free_home, running
from services.kit.provision import provision, read_properties
from services.kit.rights import PRINCIPALS


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


@contextmanager
def started_broker(home: Home) -> Iterator["subprocess.Popen[bytes]"]:
    """A broker with all topics, principals and rights, in a home with secrets and client properties."""
    with running(kafka.part(home)) as process:
        launcher = read_properties(home.client_properties(secrets.LAUNCHER))
        clients = {name: secrets.read_client_properties(home, name) for name in PRINCIPALS}
        provision(launcher, {name: client["sasl.password"] for name, client in clients.items()}, 120)
        yield process
