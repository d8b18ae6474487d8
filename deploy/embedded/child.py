"""One part kept alive: started or taken over, watched, restarted with a growing pause."""

import os
import re
import time
from collections.abc import Callable

import anyio
from anyio import to_thread

from .home import Home
from .part import Part
from .problem import Problem
from .processes import Running, end, spawn, take_over
from .state import PartRecord, PartState, timestamp

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_STEADY_AFTER_S = 60.0
_TRIES_AT_START = 3


class Child:
    """A part and the process that plays it now."""

    def __init__(
        self,
        home: Home,
        part: Part,
        changed: Callable[[], None],
        before: PartRecord | None = None,
        spawn: Callable[[Home, Part], Running] = spawn,
    ) -> None:
        self.part = part
        self.record = PartRecord(address=part.address, fingerprint=part.fingerprint)
        self.process: Running | None = None
        self._stale: Running | None = None
        self._home = home
        self._changed = changed
        self._start = spawn
        self._news = anyio.Event()
        self._failures = 0
        self._log_begins = 0
        found = take_over(home, before.pid, before.born) if before else None
        if before and found and before.fingerprint == part.fingerprint:
            self.process, self.record = found, before
            self.record.state = "starting"
        else:
            self._stale = found

    async def keep(self) -> None:
        """Keep the part alive until cancelled. Cancelling leaves the process to `stop`."""
        await self._end_stale()
        while True:
            began = time.monotonic()
            if self.process is None:
                await self._spawn()
            code = await self._watch()
            if time.monotonic() - began > _STEADY_AFTER_S:
                self._failures = 0
            pause = min(_FIRST_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
            self._failures += 1
            self.record.restarts += 1
            self._tell("restarting")
            print(f"{timestamp()} {self.part.name} ended with {code}; again in {pause:.1f} s", flush=True)
            await anyio.sleep(pause)

    async def started(self, within_s: float) -> None:
        """Wait for the part to be ready. Raises Problem when it does not get there."""
        with anyio.move_on_after(within_s) as patience:
            while self.record.state != "ready" and self._failures < _TRIES_AT_START:
                await self._news.wait()
        if self.record.state != "ready":
            how = f"is not ready after {within_s:.0f} s" if patience.cancelled_caught else "ends as soon as it starts"
            raise Problem(f"{self.part.name} {how}: {self._last_words()}", f"Read {self.part.log}.")

    async def stop(self) -> None:
        if self.process is not None and not await end(self.process, self.part.stop_signal, self.part.stop_within_s):
            print(f"{timestamp()} {self.part.name} did not end by itself and was killed", flush=True)
        self.process = None
        await self._end_stale()
        self._tell("stopped")

    async def _end_stale(self) -> None:
        """End what an earlier launcher started differently."""
        if self._stale is not None:
            await end(self._stale, self.part.stop_signal, self.part.stop_within_s)
            self._stale = None

    async def _spawn(self) -> None:
        self._log_begins = self.part.log.stat().st_size if self.part.log.exists() else 0
        with anyio.CancelScope(shield=True):  # a process that is started is known
            self.process = started = await to_thread.run_sync(self._start, self._home, self.part)
            self.record.pid, self.record.born, self.record.since = started.pid, started.born, timestamp()
        self._tell("starting")

    async def _watch(self) -> int | None:
        """Look for readiness until it is there, and wait for the end of the process."""
        assert self.process is not None
        code: int | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._await_ready, self.process.pid)
            code = await self.process.wait()
            group.cancel_scope.cancel()
        self.process.end_group()
        self.process = None
        return code

    async def _await_ready(self, pid: int) -> None:
        while not await to_thread.run_sync(self.part.ready, pid):
            await anyio.sleep(0.1)
        self._tell("ready")

    def _tell(self, state: PartState) -> None:
        self.record.state = state
        self._news.set()
        self._news = anyio.Event()
        self._changed()

    def _last_words(self) -> str:
        try:
            with self.part.log.open("rb") as log:
                log.seek(max(self._log_begins, os.fstat(log.fileno()).st_size - 16_000))
                return last_words(log.read().decode(errors="replace"))
        except OSError:
            return "no log"


def last_words(log: str) -> str:
    """The line of a log that says best why its process ended."""
    # Lines that are set in belong to a stack, and what caused an error of Java's says more than the error.
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line[0].isspace()]
    causes = [line for line in lines if line.startswith("Caused by: ")]
    errors = [line for line in lines if re.search(r"error|exception|fatal", line, re.IGNORECASE)]
    told = causes or errors or lines
    return told[-1][:300] if told else "it wrote nothing"
