"""One life of a worker process in Python, as its parent sees it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from .ends import Ends
from .errors import SandboxDied, SandboxError
from .life import CORES, PAGE, Bounds, Life
from .lockdown import PROJECT
from .spec import HEADER, MAX_PAYLOAD, Kind, Spec
from .words import as_place

_IMPORTS_S = 90.0
"""Time for the trusted imports, before the deadline of the untrusted load begins."""
_KINDS = frozenset(map(int, Kind))


@dataclass(frozen=True, kw_only=True)
class Job(Bounds):
    """What a sandbox runs."""

    entry: str
    argument: bytes
    preload: tuple[str, ...]
    packages: Path | None


class Process(Life):
    """A worker from its start to its end; one exchange at a time."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._job = job
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._number = 0
        self._due: asyncio.Future[tuple[Kind, bytes]] | None = None

    @classmethod
    async def spawn(cls, job: Job) -> "Process":
        """Start a worker, locked in and with its load done. Raises SandboxError and its kin."""
        process = cls(job)
        try:
            await process._start()
            await process._expect(Kind.LOCKED, _IMPORTS_S)
            process._borrowed = process._taken()
            process._send(Kind.ARGUMENT, 0, job.argument)
            await process._expect(Kind.READY, job.load_s)
        except BaseException:
            process.kill("not started")
            await process.end()
            raise
        return process

    async def exchange(self, payload: bytes) -> bytes:
        """The worker's answer. Raises SandboxError, SandboxDeadline or SandboxDied."""
        self._number = self._number % 0xFFFFFFFF + 1
        self._send(Kind.CALL, self._number, payload)
        return await self._expect(Kind.ANSWER, self._job.deadline_s)

    async def _start(self) -> None:
        tmp, uid = await self._prepare()
        if library := openmp(self._job.packages):
            (tmp / "libgomp.so.1").symlink_to(library)
        with Ends() as ends:
            ours, theirs = ends.sockets()
            out, err = ends.from_it()
            # From this thread: the kernel kills the worker when the thread that started it ends.
            self._popen = subprocess.Popen(  # noqa: ASYNC220 - a few milliseconds
                [sys.executable, *self._options(), "-m", "services.kit.sandbox.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=err, stderr=err, pass_fds=[theirs.fileno()], cwd=tmp,
                env=_environment(tmp), start_new_session=True,
            )  # fmt: skip
            ends.started()
            loop = asyncio.get_running_loop()
            self._transport = await ends.taken(ours, loop.create_unix_connection(lambda: self, sock=ours))
            self._transports = [self._transport]
            await self._listen_to(out, ends)
        self._send(Kind.SPEC, 0, self._spec(uid, tmp).to_json())

    def _taken(self) -> int:
        """Bytes that the worker's limits count already (`lockdown.seal`): private data, or all that is mapped."""
        return self._pages()[5 if self._job.packages else 0] * PAGE

    def _options(self) -> list[str]:
        """-P: nothing of the working folder; -S: nothing of the platform's libraries beside the model's own, which the
        worker finds once it is locked in (`imports.add`). Not -I: it would ignore the seed of hashes too."""
        return ["-P", "-S"] if self._job.packages else ["-P"]

    def _spec(self, uid: int | None, tmp: Path) -> Spec:
        job = self._job
        return Spec(
            entry=job.entry, preload=job.preload, packages=str(job.packages) if job.packages else None,
            mapped_mb=_size_mb(job.packages) if job.packages else 0, readable=_texts(job.readable),
            writable=_texts(job.writable), tmp=str(tmp), memory_mb=job.memory_mb, file_mb=job.disk_mb, uid=uid,
            parent=os.getpid(),
            # A warm worker lives as long as it is asked; `look` bounds what it uses between calls.
            cpu_s=int(2 * max(job.deadline_s, job.load_s) * CORES) + 1 if job.once else None,
        )  # fmt: skip

    def _send(self, kind: Kind, number: int, payload: bytes) -> None:
        assert self._transport is not None
        self._transport.write(HEADER.pack(kind, number, len(payload)) + payload)

    async def _expect(self, kind: Kind, deadline_s: float) -> bytes:
        self._due = asyncio.get_running_loop().create_future()
        try:
            came, payload = await self._answer(self._due, deadline_s)
        finally:
            self._due = None
        if came is Kind.ERROR:
            place, told, words = payload.decode(errors="replace").partition("\0")
            raise SandboxError(words, as_place(place)) if told else SandboxError(place)
        if came is not kind:
            self.kill(f"said {came.name} where {kind.name} was due")
            raise SandboxDied(f"said {came.name} where {kind.name} was due")
        return payload

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, number, length = HEADER.unpack_from(self._buffer)
            if length > MAX_PAYLOAD or kind not in _KINDS:
                self.kill("broke the protocol")
                return
            if len(self._buffer) < HEADER.size + length:
                return
            payload = bytes(memoryview(self._buffer)[HEADER.size : HEADER.size + length])
            del self._buffer[: HEADER.size + length]
            self._frame(Kind(kind), number, payload)

    def _frame(self, kind: Kind, number: int, payload: bytes) -> None:
        if number < self._number:
            return  # the answer to a call whose caller went away
        if number > self._number or self._due is None:
            self.kill("spoke without being asked")
        elif not self._due.done():
            self._due.set_result((kind, payload))


def _environment(tmp: Path) -> dict[str, str]:
    # One thread per arithmetic library: a model must not take its neighbours' cores, and training repeats to the byte.
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    return threads | {
        "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1", "HOME": str(tmp), "TMPDIR": str(tmp), "LANG": "C.UTF-8", "TZ": "UTC",
        "LD_LIBRARY_PATH": str(tmp),
    }  # fmt: skip


@cache
def openmp(packages: Path | None = None) -> Path | None:
    """GNU's OpenMP out of scikit-learn's package, for libraries (LightGBM) that expect it from the machine.

    Of the installed packages, or of those in a folder. None where there is none.
    """
    if packages is None and (found := find_spec("sklearn")) and found.origin:
        packages = Path(found.origin).parents[1]
    folder = packages / "scikit_learn.libs" if packages else Path()
    return next(iter(sorted(folder.glob("libgomp-*.so*"))), None)


@cache
def _size_mb(folder: Path) -> int:
    """What the files of a folder take that no longer changes."""
    sizes = (os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(folder) for name in names)  # noqa: PTH118
    return sum(sizes) // (1024 * 1024) + 1


def _texts(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(path.resolve()) for path in paths)
