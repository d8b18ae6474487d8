"""Processes as the launcher sees them: started or taken over, waited for, ended with everything they started."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import psutil

from .home import Home
from .nursery import Nursery, Request
from .part import Part, as_user

MARK = "FAIRLEAD_PART"
"""The launcher and every process that it starts carry this in their environment, and pass it on to their children."""
_ROUNDS = 3


def mark(home: Home, name: str) -> str:
    return f"{name}@{home.path}"


def born(pid: int) -> int | None:
    """When a process began, in the kernel's ticks since boot; None for one that is gone or only not yet reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True)
class Running:
    """One live process, told from a later one with the same number by its birth."""

    pid: int
    born: int
    popen: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return born(self.pid) == self.born

    async def wait(self) -> int | None:
        """Wait for its end. Answers the exit code, which nobody knows of a process that was taken over."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return self._code()
        try:
            while self.alive:
                await anyio.wait_readable(descriptor)
                if self.popen is not None:
                    break
        finally:
            os.close(descriptor)
        return self._code()

    def _code(self) -> int | None:
        return self.popen.wait() if self.popen is not None else None

    def send(self, sent: signal.Signals) -> None:
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sent)

    def end_group(self) -> None:
        """Kill what it started and left behind."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def spawn(home: Home, part: Part) -> Running:
    """Start a part as the leader of a session of its own, its output appended to its log."""
    part.before()
    environment = {**part.environment, MARK: mark(home, part.name)}
    with part.log.open("ab") as log:
        popen = subprocess.Popen(
            part.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=part.folder,
            start_new_session=True, **as_user(part.uid),
        )  # fmt: skip
    return Running(popen.pid, born(popen.pid) or 0, popen)


def spawn_from(nursery: Nursery, home: Home, part: Part) -> Running:
    """Start a Python service by the nursery, or without it where it is gone."""
    request: Request = {
        "name": part.name, "module": part.argv[-1], "log": str(part.log), "folder": str(part.folder),
        "environment": {**part.environment, MARK: mark(home, part.name)},
    }  # fmt: skip
    pid = nursery.start(request)
    return spawn(home, part) if pid is None else Running(pid, born(pid) or 0)


def take_over(home: Home, pid: int, birth: int) -> Running | None:
    """The process of an earlier launcher, if it is still that one."""
    running = Running(pid, birth)
    return running if running.alive and _mark_of(pid).endswith(f"@{home.path}") else None


def marked(home: Home) -> Iterator[psutil.Process]:
    """Every process that this home's launchers started, and their children's children."""
    end = f"@{home.path}"
    for process in psutil.process_iter():
        if process.pid != os.getpid() and _mark_of(process.pid).endswith(end) and born(process.pid) is not None:
            yield process


def _mark_of(pid: int) -> str:
    try:
        return psutil.Process(pid).environ().get(MARK, "")
    except (psutil.Error, OSError):
        return ""


async def end(running: Running, part_signal: signal.Signals, within_s: float) -> bool:
    """Ask a process to end and wait, then kill it and what it left. Answers whether asking was enough."""
    running.send(part_signal)
    with anyio.move_on_after(within_s) as patience:
        await running.wait()
    if patience.cancelled_caught:
        running.send(signal.SIGKILL)
        with anyio.move_on_after(10):
            await running.wait()
    running.end_group()
    return not patience.cancelled_caught


def end_leftovers(home: Home, spare: frozenset[int] = frozenset()) -> int:
    """Kill marked processes outside the families of `spare`. Answers how many there were."""
    found = 0
    for _ in range(_ROUNDS):  # a launcher that is killed with the rest may have started another meanwhile
        doomed = [process for process in marked(home) if not spare & _family(process)]
        for process in doomed:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(doomed, timeout=10)
        found += len(doomed)
    return found


def _family(process: psutil.Process) -> set[int]:
    with suppress(psutil.Error):
        return {process.pid, *(parent.pid for parent in process.parents())}
    return {process.pid}
