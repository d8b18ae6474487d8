"""Models that were opened for an explanation, a few of them, for the next one about the same version."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..runtimes import Remote, Runtime
from ..runtimes.sandboxed import SandboxedRuntime
from .coding import Coding
from .domain import Array, Arrays

_MB = 1024 * 1024


@dataclass(frozen=True)
class Opened:
    """A model, what it tells of its structure, and its reference rows."""

    runtime: Runtime | Remote
    told: Arrays
    coding: Coding
    rows: Array

    @property
    def may_stay(self) -> bool:
        """Only a sandbox is slow to open; one that is down is of no use."""
        return isinstance(self.runtime, SandboxedRuntime) and not self.runtime.down

    @property
    def bytes(self) -> int:
        """About what it takes."""
        texts = sum(len(each) for known in self.coding.classes.values() for each in known)
        return self.rows.nbytes + texts + (self.runtime.rss if isinstance(self.runtime, SandboxedRuntime) else 0)


class Kept:
    """Models by what they were opened from, each lent to one explanation at a time; the longest unasked go first."""

    def __init__(self, most: int, memory_mb: int, idle_s: float) -> None:
        self._most, self._bytes, self._idle_s = most, memory_mb * _MB, idle_s
        self._free: OrderedDict[str, tuple[Opened, asyncio.TimerHandle]] = OrderedDict()

    @asynccontextmanager
    async def lent(self, key: str, load: Callable[[], Awaitable[Opened]], *, keep: bool) -> AsyncGenerator[Opened]:
        """One that is kept and alive, or a new one. It stays where `keep` says so and nothing went wrong over it.

        Without `keep` what is kept under the key is ended, and a new one loaded.
        """
        opened = self._taken(key)
        if opened and not (keep and opened.may_stay):
            opened.runtime.close()
            opened = None
        opened = opened or await load()
        try:
            yield opened
        except BaseException:
            opened.runtime.close()
            raise
        if keep and opened.may_stay:
            self._put(key, opened)
        else:
            opened.runtime.close()

    def _taken(self, key: str) -> Opened | None:
        found = self._free.pop(key, None)
        if found is None:
            return None
        found[1].cancel()
        return found[0]

    def _put(self, key: str, opened: Opened) -> None:
        self._end(key)  # of two explanations at a time, the first one's
        timer = asyncio.get_running_loop().call_later(self._idle_s, self._end, key)
        self._free[key] = (opened, timer)
        while len(self._free) > self._most or sum(each.bytes for each, _ in self._free.values()) > self._bytes:
            self._end(next(iter(self._free)))

    def _end(self, key: str) -> None:
        if opened := self._taken(key):
            opened.runtime.close()

    def close(self) -> None:
        """End all that are kept."""
        for key in list(self._free):
            self._end(key)
