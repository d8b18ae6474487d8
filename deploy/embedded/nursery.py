"""Starts services by forking a process that has imported the chassis once: eight imports of it take half a minute.

The launcher writes one request a line to standard input and reads one pid a line from standard output.
"""

import ctypes
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

_CHASSIS = "services.kit.service"
_ROOM = "-" * 160  # a longer command line than any service's: it is overwritten after the fork
_ARG_START, _ARG_END = 47, 48  # fields of /proc/self/stat, counted from 0
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")


class Request(TypedDict):
    """One service to start."""

    name: str
    module: str
    environment: dict[str, str]
    folder: str
    log: str


class Nursery:
    """The launcher's end."""

    def __init__(self, root: Path, log: Path, environment: dict[str, str]) -> None:
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        with log.open("ab") as errors:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, _ROOM],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=root, start_new_session=True,
                env={**kept, **environment, "PYTHONPATH": str(root)},
            )  # fmt: skip

    def start(self, request: Request) -> int | None:
        """The pid of the new process; None when the nursery is no more. Blocks until the chassis is imported."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        try:
            self._popen.stdin.write(json.dumps(request).encode() + b"\n")
            self._popen.stdin.flush()
        except OSError:
            return None
        answer = self._popen.stdout.readline()
        return int(answer) if answer else None

    def close(self) -> None:
        """It ends when nobody can ask any more."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with suppress(OSError):  # it was killed: what it was asked last lies unsent in the pipe
            self._popen.stdin.close()
        self._popen.stdout.close()
        self._popen.kill()
        self._popen.wait()


def main() -> None:
    __import__(_CHASSIS)
    gc.collect()
    gc.freeze()  # what is shared by all services stays shared: the collector does not touch it
    signal.signal(signal.SIGCHLD, _reap)
    for line in iter(sys.stdin.buffer.readline, b""):
        request: Request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            break
        print(pid, flush=True)
    else:
        return
    _become(request)
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _reap(*_: object) -> None:
    """Say how each service ended: the launcher, not being its parent, cannot know."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        os.write(2, f"process {pid} ended with {os.waitstatus_to_exitcode(status)}\n".encode())


def _become(request: Request) -> None:
    """Be the service: its own session, output, environment, folder and command line."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [request["module"]]
    _show_as([sys.executable, "-m", request["module"]])


def _show_as(command: list[str]) -> None:
    """Overwrite this process's command line, so that `ps` and `pgrep` tell the services apart (proc(5))."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARG_START - 2]), int(fields[_ARG_END - 2])
    shown = b"\0".join(part.encode() for part in command)[: end - start - 1]
    ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    main()
