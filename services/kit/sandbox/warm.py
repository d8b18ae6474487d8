"""A sandboxed process that is kept: behind an await, looked after, started again when it dies."""

import asyncio

from services.kit.telemetry import get_logger

from .errors import SandboxAway, SandboxDeadline, SandboxError
from .life import Bounds, Life
from .lockdown import require
from .spec import MAX_PAYLOAD

log = get_logger(__name__)

_LOOK_S = 1.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 30.0


class Warm:
    """Answers calls, one at a time, by one process after the other."""

    def __init__(self, bounds: Bounds, name: str) -> None:
        self.name = name
        self.restarts = 0
        self._bounds = bounds
        self._process: Life | None = None
        self._lock = asyncio.Lock()
        self._up = asyncio.Event()
        self._last = "not started"
        self._spent_s = 0.0
        """Processor time of the workers before this one."""
        self._answered = False
        """Whether the process in hand has answered a call."""
        self._keeper: asyncio.Task[None] | None = None

    async def _spawn(self) -> Life:
        """A new process, ready to be asked. Raises SandboxError and its kin."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start and load. Raises SandboxUnavailable, SandboxError (the load raised), SandboxDeadline, SandboxDied."""
        require()
        self._process = await self._spawn()
        self._up.set()
        self._keeper = asyncio.create_task(self._keep(), name=f"sandbox {self.name}")

    async def call(self, payload: bytes) -> bytes:
        """The answer to a payload. Raises SandboxError, SandboxDeadline or SandboxDied.

        A caller that goes away leaves the worker to finish; the next call waits for it within its own deadline.
        """
        if len(payload) > MAX_PAYLOAD:
            raise SandboxError(f"the payload is larger than {MAX_PAYLOAD} bytes")
        async with self._lock:
            if self._process and not self._process.listens:
                self._up.clear()  # its death is being recorded; the keeper sets this again
            if not self._up.is_set():
                await self._next_life()
            assert self._process is not None
            try:
                answer = await self._process.exchange(payload)
            except SandboxDeadline as error:  # it is being ended, and nobody is to ask it meanwhile
                self._up.clear()
                self._last = str(error)
                raise
            self._answered = True
            return answer

    async def close(self) -> None:
        """End the worker; nothing of it is left."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        self._up.clear()
        self._last = "closed"
        if self._process:
            self._process.kill("closed")
            await self._process.end()

    def restart(self, reason: str) -> None:
        """End the process, which cannot be trusted to answer what it is asked; another one is started."""
        if self._process:
            self._up.clear()
            self._process.kill(reason)

    @property
    def down(self) -> str:
        """Why no worker is there to be asked; empty while one is."""
        return "" if self._up.is_set() else self._last

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def rss(self) -> int:
        """Resident bytes of the worker."""
        return self._process.rss if self._process else 0

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time of all its workers so far."""
        return self._spent_s + (self._process.cpu_s if self._process else 0.0)

    async def _next_life(self) -> None:
        try:
            await asyncio.wait_for(self._up.wait(), self._bounds.deadline_s if self._keeper else 0)
        except TimeoutError:
            raise SandboxAway(self._last) from None

    async def _keep(self) -> None:
        """Look after the worker, whatever fails in doing so: without it nobody starts another."""
        delay = 0.0
        while True:
            try:
                return await self._look_after()
            except Exception as error:
                log.exception("what keeps a sandbox failed and begins again", sandbox=self.name)
                self._up.clear()
                self._last = f"what keeps it failed: {error!r}"[:300]
                if self._process:
                    self._process.kill(self._last)
            delay = _longer(delay)
            await asyncio.sleep(delay)

    async def _look_after(self) -> None:
        """Watch the worker; after its death start another, with pauses that grow while no one is of any use."""
        delay, loop = 0.0, asyncio.get_running_loop()
        while True:
            born, self._answered = loop.time(), False
            self._last = await self._until_death()
            self._up.clear()
            if self._bounds.once:
                return
            log.warning("a sandboxed worker died", sandbox=self.name, reason=self._last, restarts=self.restarts)
            lived_s = loop.time() - born
            # One that lived a deadline long cannot keep the machine busy with starts, whatever it did.
            was_good = self._answered or lived_s >= self._bounds.deadline_s
            delay = _FIRST_DELAY_S if was_good else _longer(delay)
            await asyncio.sleep(delay)
            while not await self._revived():
                delay = _longer(delay)
                await asyncio.sleep(delay)
            self.restarts += 1
            self._up.set()

    async def _until_death(self) -> str:
        process = self._process
        assert process is not None
        while not process.gone.done():
            await asyncio.wait([process.gone], timeout=_LOOK_S)
            if not process.gone.done():
                await process.look(_LOOK_S)
        await process.end()
        return process.gone.result()

    async def _revived(self) -> bool:
        try:
            next_one = await self._spawn()
        except (SandboxError, OSError) as error:
            self._last = str(error)
            return False
        except Exception as error:
            log.exception("a sandboxed worker cannot be started", sandbox=self.name)
            self._last = repr(error)[:300]
            return False
        self._spent_s, self._process = self.cpu_s, next_one
        return True


def _longer(delay_s: float) -> float:
    return min(max(delay_s * 2, _FIRST_DELAY_S), _LONGEST_DELAY_S)
