"""The parent of a scorer host: owns the socket, keeps its children alive, and takes them down in order."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from services.kit.telemetry import get_logger

from .files import tell
from .settings import ScorerSettings

log = get_logger(__name__)

_BIND_S = 20.0
_GRACE_S = 12.0
_LAST_GRACE_S = 5.0
_FIRST_DELAY_S, _LAST_DELAY_S, _HEALTHY_S = 0.1, 5.0, 10.0
_TELL_FROM = 2
"""Short lives in a row of a child, before readiness tells of it: one may be a kill."""
_STALE = ("metrics/*.json", "loaded/*.json", "health/*.json", "batches.port", "forwarder.json", "children.json")
"""What the children of a host that was killed said of themselves. Another process may have their port by now."""


@dataclass(frozen=True)
class Child:
    """One row of the table of processes."""

    name: str
    module: str
    environment: dict[str, str] = field(default_factory=dict[str, str])
    files: tuple[int, ...] = ()
    last: bool = False
    """It is stopped after all others: it carries away what they leave."""


def children(settings: ScorerSettings, listening: socket.socket) -> list[Child]:
    """Everything that runs on a scorer host. A new part of the room plugs in here."""
    fd = listening.fileno()
    workers = [
        Child(f"worker-{k}", "services.scorer.worker", {"FAIRLEAD_SLOT": str(k), "FAIRLEAD_LISTEN_FD": str(fd)}, (fd,))
        for k in range(settings.workers)
    ]
    calls = [Child("rpc", "services.scorer.rpc")] if settings.grpc_port else []
    return [
        *workers,
        *calls,
        Child("agent", "services.scorer.agent"),
        Child("streams", "services.scorer.streams"),
        Child("batches", "services.scorer.batches"),
        Child("forwarder", "services.scorer.forwarder", last=True),
    ]


class Host:
    """Starts the children, restarts what dies, stops all on SIGTERM."""

    def __init__(self, table: Iterable[Child], run_folder: Path) -> None:
        self._table = list(table)
        self._run_folder = run_folder
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._short_lives: dict[str, int] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM; then all are stopped, those that carry away what others leave last."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._table]
        await self._stopping.wait()
        for task in keepers:
            task.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await self._stop([child.name for child in self._table if not child.last], _GRACE_S)
        await self._stop([child.name for child in self._table if child.last], _LAST_GRACE_S)

    async def _keep(self, child: Child) -> None:
        """A child that dies is there again within a moment; one that dies at once is tried less and less often, and
        readiness tells of it."""
        delay, loop = _FIRST_DELAY_S, asyncio.get_running_loop()
        while True:
            steady = loop.call_later(_HEALTHY_S, self._count, child, 0, "")
            started, status = loop.time(), await self._live(child)
            steady.cancel()
            short = loop.time() - started < _HEALTHY_S
            delay = min(delay * 2, _LAST_DELAY_S) if short else _FIRST_DELAY_S
            log.error("a child ended and is started again", child=child.name, status=status, after_s=delay)
            self._count(child, self._short_lives.get(child.name, 0) + 1 if short else 0, status)
            await asyncio.sleep(delay)

    async def _live(self, child: Child) -> str:
        """One life of a child; answers how it ended."""
        try:
            process = self._running[child.name] = await _start(child)
        except OSError as error:  # no memory, no process to be had
            return f"not started: {error.strerror}"
        return str(await process.wait())

    def _count(self, child: Child, short_lives: int, status: str) -> None:
        """For the workers' readiness."""
        if self._short_lives.get(child.name, 0) == short_lives:
            return
        self._short_lives[child.name] = short_lives
        failing = {name: count for name, count in self._short_lives.items() if count >= _TELL_FROM}
        said = {name: f"ended {count} times in a row ({status})" for name, count in failing.items()}
        tell(self._run_folder / "children.json", orjson.dumps(said))

    async def _stop(self, names: list[str], grace: float) -> None:
        alive = [p for name in names if (p := self._running.get(name)) and p.returncode is None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        if not alive:
            return
        _, late = await asyncio.wait([asyncio.create_task(p.wait()) for p in alive], timeout=grace)
        for process in alive if late else ():
            if process.returncode is None:
                log.error("a child did not stop in time", pid=process.pid)
                process.kill()


async def _start(child: Child) -> asyncio.subprocess.Process:
    environment = {**os.environ, **child.environment, "FAIRLEAD_SCORER_HOST": str(os.getpid())}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", child.module, env=environment, pass_fds=child.files
    )  # fmt: skip


async def listen(host: str, port: int) -> socket.socket:
    """The one socket of all workers. Waits a while: the workers of a killed host may still be finishing."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ends = asyncio.get_running_loop().time() + _BIND_S
    while True:
        try:
            listening.bind((host, port))
            break
        except OSError as error:
            if asyncio.get_running_loop().time() > ends:
                raise SystemExit(
                    f"scorer: port {port} on {host} is taken ({error.strerror}); set FAIRLEAD_PORT"
                ) from None
            await asyncio.sleep(0.1)
    listening.listen(2048)
    listening.setblocking(False)
    listening.set_inheritable(True)
    return listening


async def run(settings: ScorerSettings) -> None:
    """A whole host, until SIGTERM. Raises SystemExit where its port is taken."""
    listening = await listen(settings.host, settings.listen_port("scorer"))
    for stale in (path for pattern in _STALE for path in settings.run_folder.glob(pattern)):
        stale.unlink(missing_ok=True)
    log.info("listening", port=settings.listen_port("scorer"), workers=settings.workers)
    await Host(children(settings, listening), settings.run_folder).run()
    log.info("stopped")
