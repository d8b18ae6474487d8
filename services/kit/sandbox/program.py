"""A sandboxed program, whatever it is written in: a line goes to its standard input, a line comes out of its output."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.kit.runtimes import Runtime

from .ends import Ends
from .errors import SandboxError
from .life import Bounds, Life
from .lockdown import PROJECT
from .spec import HEADER, MAX_PAYLOAD, Kind, ProgramSpec
from .warm import Warm

_LAUNCH_S = 90.0
"""Time for unpacking, before the deadline of the program's own start begins."""


@dataclass(frozen=True, kw_only=True)
class ProgramJob(Bounds):
    """What is run."""

    command: tuple[str, ...]
    runtime: Runtime | None
    package: Path
    digest: str | None
    greeting: bytes
    welcome: Callable[[bytes], None]


class ProgramSandbox(Warm):
    """A program that answers a line with a line, one at a time.

    `command` is run in the unpacked `package`, a zip of that `digest` (hexadecimal sha256). Its first word is run by
    `runtime`, or is a file of the package where that is None. The program reads its package, its runtime and the
    system's libraries, writes a temporary folder of its own, reaches no network and starts no other program. It has
    `memory_mb`; one that keeps more is ended within about a second.

    It has started once it has answered `greeting`, within `load_s`, and `welcome` takes its answer (it raises
    SandboxError otherwise). What it writes unasked ends it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        runtime: Runtime | None,
        package: Path,
        digest: str | None,
        greeting: bytes,
        welcome: Callable[[bytes], None],
        memory_mb: int = 1024,
        disk_mb: int = 1024,
        deadline_s: float = 10.0,
        load_s: float | None = None,
        name: str = "",
        once: bool = False,
    ) -> None:
        self._job = ProgramJob(
            command=tuple(command), runtime=runtime, package=package, digest=digest, greeting=greeting, welcome=welcome,
            memory_mb=memory_mb, disk_mb=disk_mb, deadline_s=deadline_s, load_s=load_s or deadline_s, once=once,
        )  # fmt: skip
        super().__init__(self._job, name or command[0])

    async def _spawn(self) -> "Program":
        return await Program.spawn(self._job)


class Program(Life):
    """A program from its start to its end."""

    def __init__(self, job: ProgramJob) -> None:
        super().__init__(job)
        self._job = job
        self._stdin: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._owed = 0
        """Lines that it has still to answer; of all but the last the caller went away."""
        self._due: asyncio.Future[bytes] | None = None

    @classmethod
    async def spawn(cls, job: ProgramJob) -> "Program":
        """Start a program, locked in and welcomed. Raises SandboxError and its kin."""
        program = cls(job)
        try:
            await program._start()
            job.welcome(await program._ask(job.greeting, job.load_s))
        except BaseException:
            program.kill("not started")
            await program.end()
            raise
        return program

    async def exchange(self, payload: bytes) -> bytes:
        """The line with which it answers one. Raises SandboxDeadline or SandboxDied."""
        return await self._ask(payload, self._job.deadline_s)

    @property
    def listens(self) -> bool:
        return self._killed is None and super().listens

    async def _ask(self, payload: bytes, deadline_s: float) -> bytes:
        assert self._stdin is not None
        self._due = asyncio.get_running_loop().create_future()
        self._owed += 1
        self._stdin.write(payload + b"\n")
        try:
            return await self._answer(self._due, deadline_s)
        finally:
            self._due = None

    async def _start(self) -> None:
        tmp, uid = await self._prepare()
        loop = asyncio.get_running_loop()
        with Ends() as ends:
            ours, theirs = ends.sockets()
            (stdin, given), (out, stdout), (errors, stderr) = ends.to_it(), ends.from_it(), ends.from_it()
            # From this thread: the kernel kills the program when the thread that started it ends.
            self._popen = subprocess.Popen(  # noqa: ASYNC220 - a few milliseconds
                [sys.executable, "-P", "-S", "-m", "services.kit.sandbox.launch", str(theirs.fileno())],
                stdin=given, stdout=stdout, stderr=stderr, pass_fds=[theirs.fileno()], cwd=tmp,
                env={"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}, start_new_session=True,
            )  # fmt: skip
            ends.started()
            self._transports.append(await ends.taken(out, loop.connect_read_pipe(lambda: self, out)))
            self._stdin = await ends.taken(stdin, loop.connect_write_pipe(asyncio.BaseProtocol, stdin))
            self._transports.append(self._stdin)
            await self._listen_to(errors, ends)
            launcher = _Launcher()
            control = await ends.taken(ours, loop.create_unix_connection(lambda: launcher, sock=ours))
        await self._launched(launcher, control, self._spec(uid, tmp))

    async def _launched(self, launcher: "_Launcher", control: asyncio.WriteTransport, spec: ProgramSpec) -> None:
        """Until the launcher has become the program. Raises SandboxError in its words where it cannot."""
        said = spec.to_json()
        control.write(HEADER.pack(Kind.SPEC, 0, len(said)) + said)
        try:
            if told := await self._answer(launcher.ended, _LAUNCH_S):
                raise SandboxError(told[HEADER.size :].decode(errors="replace"))
        finally:
            control.close()

    def _spec(self, uid: int | None, tmp: Path) -> ProgramSpec:
        job, runtime = self._job, self._job.runtime
        readable = (job.package.resolve(), *(runtime.readable if runtime else ()))
        return ProgramSpec(
            runtime=str(runtime.program) if runtime else None, command=job.command, package=str(job.package.resolve()),
            digest=job.digest, environment=_environment(tmp, job.memory_mb), readable=tuple(map(str, readable)),
            writable=(), tmp=str(tmp), memory_mb=job.memory_mb, file_mb=job.disk_mb, uid=uid, parent=os.getpid(),
        )  # fmt: skip

    def data_received(self, data: bytes) -> None:
        if self._killed:
            return
        seen = len(self._buffer)
        self._buffer += data
        while (end := self._buffer.find(b"\n", seen)) >= 0:
            line = bytes(memoryview(self._buffer)[:end])
            del self._buffer[: end + 1]
            seen = 0
            self._line(line)
        if len(self._buffer) > MAX_PAYLOAD:
            self.kill(f"wrote a line of more than {MAX_PAYLOAD} bytes")
        elif self._buffer and not self._owed:
            self.kill("wrote to its standard output without being asked")

    def _line(self, line: bytes) -> None:
        if not self._owed:
            self.kill("wrote to its standard output without being asked")
            return
        self._owed -= 1
        if not self._owed and self._due and not self._due.done():
            self._due.set_result(line)


class _Launcher(asyncio.Protocol):
    """What a launcher says before it is the program: nothing, where all is well."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._said = b""

    def data_received(self, data: bytes) -> None:
        self._said += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(self._said)


def _environment(tmp: Path, memory_mb: int) -> dict[str, str]:
    """Nothing of the platform's. Who sizes a heap by the machine is told of half of the program's memory."""
    half = memory_mb // 2
    return {
        "HOME": str(tmp), "TMPDIR": str(tmp), "LANG": "C.UTF-8", "TZ": "UTC", "OMP_NUM_THREADS": "1",
        "OPENSSL_CONF": "/dev/null", "NODE_OPTIONS": f"--max-old-space-size={half}",
        "JDK_JAVA_OPTIONS": f"-Xmx{half}m -XX:-UsePerfData",
    }  # fmt: skip
