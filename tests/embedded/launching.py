"""Drives the launcher as `make` does, in homes of the test's own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from deploy.embedded.home import ROOT, Home
from deploy.embedded.processes import born, marked

WITHIN_S = 240


@dataclass
class Installation:
    """A home, a port, and the environment that a user would set."""

    home: Home
    services: str = ""
    extra: dict[str, str] = field(default_factory=dict[str, str])

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """`make up`, `make down` or `make status`."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")} | {
            "FAIRLEAD_HOME": str(self.home.path),
            "FAIRLEAD_PORT": str(self.home.port),
            "FAIRLEAD_SERVICES": self.services,
            "COLUMNS": "160",
            **self.extra,
        }
        return subprocess.run(
            [sys.executable, "-m", "deploy.embedded", command], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=WITHIN_S, check=False,
        )  # fmt: skip

    def up(self) -> None:
        done = self.run("up")
        assert done.returncode == 0, done.stdout + self.log("launcher")

    def log(self, name: str) -> str:
        path = self.home.logs / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def state(self) -> dict[str, Any]:
        return json.loads((self.home.run / "state.json").read_text())

    def pids(self) -> dict[str, int]:
        return {name: part["pid"] for name, part in self.state()["parts"].items() if part["pid"]}

    def processes(self) -> list[str]:
        """Everything of this home that is alive, by any launcher."""
        return [" ".join(process.cmdline()) for process in marked(self.home)]

    def kill(self, name: str) -> int:
        """kill -9, and wait until it is gone. Answers the pid."""
        pid = self.state()["launcher"] if name == "launcher" else self.pids()[name]
        process = psutil.Process(pid)
        process.kill()
        wait_until(lambda: born(pid) is None)
        return pid

    def ready_again(self, name: str, after: int) -> bool:
        part = self.state()["parts"][name]
        return part["state"] == "ready" and part["pid"] != after


@contextmanager
def place() -> Iterator[Path]:
    """A folder of our own: pytest closes its own to other users, PostgreSQL's too, when a second session starts."""
    with tempfile.TemporaryDirectory(prefix="fairlead-tests-") as made:
        yield Path(made)


def wait_until(check: Callable[[], bool], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.1)
