"""One life of a worker process, as its parent sees it."""

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from .errors import SandboxDeadline, SandboxDied, SandboxError
from .lockdown import PROJECT
from .scratch import Scratch, sweep
from .spec import HEADER, MAX_ERROR, MAX_PAYLOAD, Kind, Spec

_IMPORTS_S = 90.0
"""Time for the trusted imports, before the deadline of the untrusted load begins."""
_FIRST_UID, _UIDS = 61184, 4096
_STDERR_PAUSE_S, _STDERR_LAST_S = 0.01, 0.5
_MOST_FILES = 10_000
_KINDS = frozenset(map(int, Kind))

_count = itertools.count(os.getpid())
_TICKS = os.sysconf("SC_CLK_TCK")
_CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """What a sandbox runs, and its bounds."""

    entry: str
    argument: bytes
    preload: tuple[str, ...]
    packages: Path | None
    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    memory_mb: int
    disk_mb: int
    deadline_s: float
    load_s: float
    once: bool


class Process(asyncio.Protocol):
    """A worker from its start to its end; one exchange at a time."""

    def __init__(self, job: Job) -> None:
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the process has ended. Wait with `asyncio.wait`: it is shared."""
        self._job = job
        self._scratch: Scratch | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._errors: asyncio.ReadTransport | None = None
        self._buffer = bytearray()
        self._stderr = _Stderr()
        self._number = 0
        self._waiting: asyncio.Future[tuple[Kind, bytes]] | None = None
        self._killed: str | None = None
        self._busy_s, self._busy_seen_s, self._cpu_s, self._burnt_s = 0.0, 0.0, 0.0, 0.0

    @classmethod
    async def spawn(cls, job: Job) -> "Process":
        """Start a worker, locked in and with its load done. Raises SandboxError and its kin."""
        process = cls(job)
        try:
            await process._start()
            await process._expect(Kind.LOCKED, _IMPORTS_S)
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

    def kill(self, reason: str) -> None:
        """SIGKILL, with what is said of it."""
        self._killed = self._killed or reason
        if self._popen:
            self._popen.kill()

    async def end(self) -> None:
        """Wait until nothing of this worker is left."""
        if self._transport:
            await asyncio.wait([self.gone])
            self._transport.close()
        elif self._popen:
            await asyncio.to_thread(self._popen.wait)
        if self._errors:
            self._errors.close()
        if self._scratch:
            scratch, self._scratch = self._scratch, None
            await asyncio.to_thread(scratch.remove)

    @property
    def listens(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def pid(self) -> int:
        return self._popen.pid if self._popen else 0

    @property
    def rss(self) -> int:
        """Resident bytes; 0 when it is gone."""
        if self.gone.done():  # its number may be another's by now
            return 0
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return 0

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time that it has used; of one that is gone, all that it used."""
        return self._cpu_s if self.gone.done() else self._cpu()

    async def look(self, elapsed_s: float) -> None:
        """Kill a worker that fills its folders, or that computes while nobody asked."""
        cpu, asked_s = self._cpu(), (self._busy_s - self._busy_seen_s) * _CORES
        self._burnt_s = max(0.0, self._burnt_s + cpu - self._cpu_s - asked_s - elapsed_s / 10)
        self._cpu_s, self._busy_seen_s = cpu, self._busy_s
        if self._burnt_s > self._job.deadline_s and self._waiting is None:
            self.kill("used processor time between calls")
        elif await asyncio.to_thread(_too_much, self._folders(), self._job.disk_mb):
            self.kill(f"wrote more than {self._job.disk_mb} MB or {_MOST_FILES} files")

    async def _start(self) -> None:
        uid = _uid()
        await asyncio.to_thread(sweep)
        self._scratch = Scratch.make()
        tmp = self._scratch.path
        if library := openmp(self._job.packages):
            (tmp / "libgomp.so.1").symlink_to(library)
        if uid is not None:
            for folder in self._folders():
                os.chown(folder, uid, uid)
        ours, theirs = socket.socketpair()
        out, err = os.pipe()
        # From this thread: the kernel kills the worker when the thread that started it ends.
        try:
            self._popen = subprocess.Popen(  # noqa: ASYNC220 - a few milliseconds
                [sys.executable, *self._options(), "-m", "services.kit.sandbox.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=err, stderr=err, pass_fds=[theirs.fileno()], cwd=tmp,
                env=_environment(tmp, self._job.packages), start_new_session=True,
            )  # fmt: skip
        finally:
            theirs.close()
            os.close(err)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_unix_connection(lambda: self, sock=ours)
        self._errors, _ = await loop.connect_read_pipe(lambda: self._stderr, os.fdopen(out, "rb", 0))
        self._send(Kind.SPEC, 0, self._spec(uid, tmp).to_json())

    def _options(self) -> list[str]:
        """-P: nothing of the working folder; -S: nothing of the platform's libraries beside the model's own."""
        return ["-P", "-S"] if self._job.packages else ["-P"]

    def _spec(self, uid: int | None, tmp: Path) -> Spec:
        job = self._job
        return Spec(
            entry=job.entry, preload=job.preload, packages=str(job.packages) if job.packages else None,
            mapped_mb=_size_mb(job.packages) if job.packages else 0, readable=_texts(job.readable),
            writable=_texts(job.writable), tmp=str(tmp), memory_mb=job.memory_mb, file_mb=job.disk_mb, uid=uid,
            parent=os.getpid(),
            # A warm worker lives as long as it is asked; `look` bounds what it uses between calls.
            cpu_s=int(2 * max(job.deadline_s, job.load_s) * _CORES) + 1 if job.once else None,
        )  # fmt: skip

    def _folders(self) -> list[Path]:
        """Where the worker may write."""
        return [*self._job.writable, *([self._scratch.path] if self._scratch else [])]

    def _send(self, kind: Kind, number: int, payload: bytes) -> None:
        assert self._transport is not None
        self._transport.write(HEADER.pack(kind, number, len(payload)) + payload)

    async def _expect(self, kind: Kind, deadline_s: float) -> bytes:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        started = loop.time()
        timer = loop.call_later(deadline_s, self._expire, self._waiting, deadline_s)
        try:
            came, payload = await self._waiting
        finally:
            timer.cancel()
            self._waiting = None
            self._busy_s += loop.time() - started
        if came is Kind.ERROR:
            raise SandboxError(payload.decode(errors="replace"))
        if came is not kind:
            self.kill(f"said {came.name} where {kind.name} was due")
            raise SandboxDied(f"said {came.name} where {kind.name} was due")
        return payload

    def _expire(self, waiting: "asyncio.Future[tuple[Kind, bytes]]", deadline_s: float) -> None:
        if not waiting.done():
            waiting.set_exception(SandboxDeadline(f"took longer than {deadline_s:g} s and was killed"))
            self.kill(f"took longer than {deadline_s:g} s")

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
        if number > self._number or self._waiting is None:
            self.kill("spoke without being asked")
        elif not self._waiting.done():
            self._waiting.set_result((kind, payload))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self._burial = asyncio.get_running_loop().create_task(self._bury())

    async def _bury(self) -> None:
        assert self._popen is not None
        self._cpu_s = self._cpu()  # while the kernel still tells
        status = await asyncio.to_thread(_reap, self._popen)
        await self._stderr.finish()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        died = f"the sandboxed worker ended ({self._killed or how}) {self._stderr.tail}".rstrip()
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(SandboxDied(died))
        self.gone.set_result(died)

    def _cpu(self) -> float:
        """Seconds of processor time that the worker has used."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return self._cpu_s
        return (int(fields[11]) + int(fields[12])) / _TICKS


class _Stderr(asyncio.Protocol):
    """Keeps the end of what a worker writes, and reads no faster than is worth it."""

    def __init__(self) -> None:
        self._kept = b""
        self._ended = asyncio.get_running_loop().create_future()
        self._last_words = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-MAX_ERROR:]
        if len(data) > MAX_ERROR and not self._last_words:  # a flood must not keep the parent busy
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(_STDERR_PAUSE_S, self._resume)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set_result(None)

    async def finish(self) -> None:
        """Read what a dead worker has left in the pipe."""
        self._last_words = True
        self._resume()
        await asyncio.wait([self._ended], timeout=_STDERR_LAST_S)

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def tail(self) -> str:
        return self._kept.decode(errors="replace").strip()


def _reap(popen: "subprocess.Popen[bytes]") -> int:
    """The exit status; a worker that closed its socket and lingers is killed."""
    try:
        return popen.wait(0.5)
    except subprocess.TimeoutExpired:
        popen.kill()
        return popen.wait()


def _uid() -> int | None:
    """An id that no other worker of this process has, when there is the right to drop to it."""
    return None if os.geteuid() else _FIRST_UID + next(_count) % _UIDS


def _environment(tmp: Path, packages: Path | None) -> dict[str, str]:
    # One thread per arithmetic library: a model must not take its neighbours' cores, and training repeats to the byte.
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    found = os.pathsep.join(map(str, [PROJECT, *([packages] if packages else [])]))
    return threads | {
        "PYTHONPATH": found, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PYTHONHASHSEED": "0",
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


def _too_much(folders: Sequence[Path], most_mb: int) -> bool:
    left, files = most_mb * 1024 * 1024, _MOST_FILES
    for folder in folders:
        for at, _, names in os.walk(folder):
            for name in names:
                try:
                    left -= os.lstat(os.path.join(at, name)).st_blocks * 512  # noqa: PTH118
                except OSError:
                    continue  # gone since it was listed
            files -= 1 + len(names)
            if left < 0 or files < 0:
                return True
    return False
