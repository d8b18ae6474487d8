"""A service as a process of its own, to be killed at any moment."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts import Service
from services.kit.settings import Settings


class Victim:
    """One service process; it comes back when told."""

    def __init__(self, service: Service, settings: Settings, port: int) -> None:
        self._command = [sys.executable, "-m", f"services.{service}"]
        self._environment = os.environ | {
            "FAIRLEAD_HOME": str(settings.home), "FAIRLEAD_PORT": str(port),
            "FAIRLEAD_KAFKA_PROPERTIES": str(settings.kafka_properties),
            "FAIRLEAD_SERVICE_DATABASE": settings.service_database, "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self._log = (settings.home / "logs" / f"{service}.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            self._command, env=self._environment, cwd=root, stdout=self._log, stderr=self._log
        )

    def kill(self) -> None:
        """kill -9. It must have been alive."""
        assert self._process and self._process.poll() is None, "the service ended by itself"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; answers the exit code."""
        assert self._process
        self._process.terminate()
        try:
            return self._process.wait(20)
        finally:
            self._process.kill()
            self._log.close()


@contextmanager
def victim(service: Service, settings: Settings, port: int) -> Iterator[Victim]:
    made = Victim(service, settings, port)
    made.start()
    try:
        yield made
    finally:
        code = made.stop()
    assert code == 0, "SIGTERM did not end the service cleanly"
