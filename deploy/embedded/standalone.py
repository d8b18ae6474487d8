"""Kafka and PostgreSQL without the launcher: for tests and benchmarks that need only one of them."""

import ctypes
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.kit.settings import PORT_ORDER

from .home import Home
from .part import Part, as_user, listening
from .problem import Problem

_PR_SET_PDEATHSIG = 1


def free_home(path: Path) -> Home:
    """A home at ports that nothing uses now."""
    while True:
        # Below the range from which the kernel takes ports for outgoing connections: those come and go.
        home = Home(path, random.randrange(10_000, 32_000))
        ports = (*map(home.port_of, PORT_ORDER), home.kafka_port, home.controller_port, home.postgres_port)
        if not any(map(listening, ports)):
            return home


@contextmanager
def running(part: Part, within_s: float = 150) -> Iterator[subprocess.Popen[bytes]]:
    """A part that is ready; it ends with the block, and with this process however that ends."""
    with start(part) as process:
        try:
            wait_ready(part, process, within_s)
            yield process
        finally:
            stop(part, process)


def start(part: Part) -> subprocess.Popen[bytes]:
    part.before()
    part.log.parent.mkdir(parents=True, exist_ok=True)
    with part.log.open("ab") as log:
        return subprocess.Popen(
            part.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=dict(part.environment),
            **as_user(part.uid), start_new_session=True, preexec_fn=_end_with_parent,
        )  # fmt: skip


def wait_ready(part: Part, process: subprocess.Popen[bytes], within_s: float = 150) -> None:
    """Wait until a started part is ready. Raises Problem."""
    deadline = time.monotonic() + within_s
    while not part.ready(process.pid):
        if process.poll() is not None:
            raise Problem(f"{part.name} ended with {process.returncode}", f"Read {part.log}.")
        if time.monotonic() > deadline:
            raise Problem(f"{part.name} is not ready after {within_s:.0f} s", f"Read {part.log}.")
        time.sleep(0.05)


def stop(part: Part, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(part.stop_signal)
    try:
        process.wait(part.stop_within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
