"""What every sandboxed process has from its start to its end, as its parent sees it: a folder, bounds, last words."""

import asyncio
import io
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from .disk import too_much
from .ends import Ends
from .errors import SandboxDeadline, SandboxDied
from .scratch import Scratch, sweep
from .spec import MAX_ERROR
from .uids import Uid
from .words import last_words, place_in

_STDERR_PAUSE_S, _STDERR_LAST_S = 0.01, 0.5
_MB = 1024 * 1024

_TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
CORES = os.cpu_count() or 1
A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a sandboxed process may use."""

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    memory_mb: int
    disk_mb: int
    deadline_s: float
    load_s: float
    once: bool = False


class Life(asyncio.Protocol):
    """A process from its start to its end; one exchange at a time."""

    def __init__(self, bounds: Bounds) -> None:
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the process has ended: for logs, so without its words, which may hold values of
        its input. Wait with `asyncio.wait`: it is shared."""
        self._bounds = bounds
        self._scratch: Scratch | None = None
        self._uid: Uid | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._transports: list[asyncio.BaseTransport] = []
        """What comes from the process first: it ends with it."""
        self._stderr = _Stderr()
        self._waiting: asyncio.Future[object] | None = None
        self._killed: str | None = None
        self._borrowed = 0
        """Bytes that it may have beside: what it took before anybody's code ran."""
        self._busy_s, self._busy_seen_s, self._cpu_s, self._burnt_s = 0.0, 0.0, 0.0, 0.0

    async def exchange(self, payload: bytes) -> bytes:
        """The answer. Raises SandboxError, SandboxDeadline or SandboxDied."""
        raise NotImplementedError

    def kill(self, reason: str) -> None:
        """SIGKILL, with what is said of it."""
        self._killed = self._killed or reason
        if self._popen:
            self._popen.kill()

    async def end(self) -> None:
        """Wait until nothing of this process is left."""
        if self._transports:
            await asyncio.wait([self.gone])
        elif self._popen:
            await asyncio.to_thread(self._popen.wait)
        for transport in self._transports:
            transport.close()
        self._stderr.close()
        if self._scratch:
            scratch, self._scratch = self._scratch, None
            await asyncio.to_thread(scratch.remove)
        if self._uid:
            uid, self._uid = self._uid, None
            uid.give_back()

    @property
    def listens(self) -> bool:
        return bool(self._transports) and not self._transports[0].is_closing()

    @property
    def pid(self) -> int:
        return self._popen.pid if self._popen else 0

    @property
    def rss(self) -> int:
        """Resident bytes; 0 when it is gone."""
        if self.gone.done():  # its number may be another's by now
            return 0
        return self._pages()[1] * PAGE

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time that it has used; of one that is gone, all that it used."""
        return self._cpu_s if self.gone.done() else self._cpu()

    async def look(self, elapsed_s: float) -> None:
        """Kill a process that has more memory than its own, fills its folders, or computes while nobody asked."""
        cpu, asked_s = self._cpu(), (self._busy_s - self._busy_seen_s) * CORES
        self._burnt_s = max(0.0, self._burnt_s + cpu - self._cpu_s - asked_s - elapsed_s / 10)
        self._cpu_s, self._busy_seen_s = cpu, self._busy_s
        if self._burnt_s > self._bounds.deadline_s and self._waiting is None:
            self.kill("used processor time between calls")
        elif self._kept() - self._borrowed > self._bounds.memory_mb * _MB:
            self.kill(f"used more than {self._bounds.memory_mb} MB of memory")
        elif reason := await asyncio.to_thread(too_much, self._folders(), self.pid, self._bounds.disk_mb):
            self.kill(reason)

    async def _prepare(self) -> tuple[Path, int | None]:
        """The temporary folder, and the id to drop to."""
        await asyncio.to_thread(sweep)
        self._scratch = Scratch.make()
        if os.geteuid():
            return self._scratch.path, None
        self._uid = Uid.take()
        for folder in self._folders():
            os.chown(folder, self._uid.number, self._uid.number)
        return self._scratch.path, self._uid.number

    async def _listen_to(self, errors: io.FileIO, ends: Ends) -> None:
        """Keep the end of what the process writes to its standard error."""
        await ends.taken(errors, asyncio.get_running_loop().connect_read_pipe(lambda: self._stderr, errors))

    def _folders(self) -> list[Path]:
        """Where the process may write."""
        return [*self._bounds.writable, *([self._scratch.path] if self._scratch else [])]

    async def _answer(self, waiting: "asyncio.Future[A]", deadline_s: float) -> A:
        """What it says next. Raises SandboxDeadline after its end, or SandboxDied."""
        loop = asyncio.get_running_loop()
        self._waiting = cast("asyncio.Future[object]", waiting)
        started = loop.time()
        timer = loop.call_later(deadline_s, self._expire, waiting, deadline_s)
        try:
            return await waiting
        finally:
            timer.cancel()
            self._waiting = None
            self._busy_s += loop.time() - started

    def _expire(self, waiting: "asyncio.Future[A]", deadline_s: float) -> None:
        if not waiting.done():
            waiting.set_exception(SandboxDeadline(f"took longer than {deadline_s:g} s and was killed"))
            self.kill(f"took longer than {deadline_s:g} s")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self._burial = asyncio.get_running_loop().create_task(self._bury())

    async def _bury(self) -> None:
        assert self._popen is not None
        self._cpu_s = self._cpu()  # while the kernel still tells
        status = await asyncio.to_thread(_reap, self._popen)
        await self._stderr.finish()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        died, said = f"the sandboxed worker ended ({self._killed or how})", self._stderr.tail
        place = place_in(said)
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(SandboxDied(f"{died} {last_words(said)}".rstrip(), place))
        self.gone.set_result(f"{died} {place}".rstrip())

    def _kept(self) -> int:
        """Bytes of memory that are its own: what it maps of files is the machine's."""
        pages = self._pages()
        return (pages[1] - pages[2]) * PAGE

    def _pages(self) -> list[int]:
        """What the kernel says of its memory: mapped, resident, of these shared, and so on (proc(5), statm)."""
        try:
            return [int(each) for each in Path(f"/proc/{self.pid}/statm").read_text().split()]
        except OSError:
            return [0] * 7

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
        self._transport: asyncio.ReadTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-MAX_ERROR:]
        if len(data) > MAX_ERROR and not self._last_words and self._transport:  # a flood must not keep the parent busy
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(_STDERR_PAUSE_S, self._resume)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set_result(None)

    async def finish(self) -> None:
        """Read what a dead worker has left in the pipe."""
        self._last_words = True
        self._resume()
        await asyncio.wait([self._ended], timeout=_STDERR_LAST_S)

    def close(self) -> None:
        """Read no more."""
        if self._transport:
            self._transport.close()

    def _resume(self) -> None:
        if self._transport and not self._transport.is_closing():
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
