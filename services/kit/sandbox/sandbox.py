"""A sandboxed function: one warm worker process behind an await, started again when it dies."""

from collections.abc import Sequence
from pathlib import Path

from .process import Job, Process
from .warm import Warm


class Sandbox(Warm):
    """A worker that loads untrusted code once and answers calls, one at a time.

    `entry` is "package.module:factory". The module is trusted: it is imported, with the libraries in `preload`, before
    the filter closes. `factory(argument)` then runs locked in and answers a function from bytes to bytes.
    The worker reads the interpreter, the installed packages, the code of the house and `readable`; it writes
    `writable` and a temporary folder of its own. It reaches no network, starts no process, and has `memory_mb` beyond
    what the libraries took. A call that lasts longer than `deadline_s` is ended by SIGKILL; so is a start whose
    `factory` takes longer than `load_s` (default: `deadline_s`).

    With `packages`, a folder of libraries, the worker sees these instead of the installed ones, and imports the entry's
    module and all that it needs only when the filter is closed: `preload` is not used then.
    """

    def __init__(
        self,
        entry: str,
        argument: bytes,
        *,
        preload: Sequence[str] = (),
        packages: Path | None = None,
        readable: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        memory_mb: int = 1024,
        disk_mb: int = 1024,
        deadline_s: float = 10.0,
        load_s: float | None = None,
        name: str = "",
        once: bool = False,
    ) -> None:
        self._job = Job(
            entry=entry, argument=argument, preload=tuple(preload), packages=packages, readable=tuple(readable),
            writable=tuple(writable), memory_mb=memory_mb, disk_mb=disk_mb, deadline_s=deadline_s,
            load_s=load_s or deadline_s, once=once,
        )  # fmt: skip
        super().__init__(self._job, name or entry)

    async def _spawn(self) -> Process:
        return await Process.spawn(self._job)


async def run_sandboxed(
    entry: str,
    argument: bytes,
    *,
    preload: Sequence[str] = (),
    packages: Path | None = None,
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
    memory_mb: int = 1024,
    disk_mb: int = 1024,
    deadline_s: float = 10.0,
    name: str = "",
) -> bytes:
    """One call, `factory(argument)(b"")`, in a worker of its own: for scans and training."""
    sandbox = Sandbox(
        entry, argument, preload=preload, packages=packages, readable=readable, writable=writable,
        memory_mb=memory_mb, disk_mb=disk_mb, deadline_s=deadline_s, name=name, once=True,
    )  # fmt: skip
    try:
        await sandbox.start()
        return await sandbox.call(b"")
    finally:
        await sandbox.close()
