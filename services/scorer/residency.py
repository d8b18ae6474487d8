"""Which models a process has in memory: those that were asked last, within its budget."""

import asyncio
import ctypes
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from hashlib import sha256
from weakref import WeakSet

from contracts import Variant
from services.kit.release import version
from services.kit.telemetry import get_logger

from .files import tell
from .lane import Lane
from .packages import Packages

log = get_logger(__name__)

_MB = 1024 * 1024
_SANDBOXES_AT_ONCE = 2
_TRIM_S = 2.0


class Residency:
    """Models are loaded when they are asked, and the longest unasked ones leave for them. Without a budget all stay."""

    def __init__(self, budget_mb: int, packages: Packages) -> None:
        self._budget = budget_mb * _MB
        self._packages = packages
        self._lanes: WeakSet[Lane] = WeakSet()
        self._one = asyncio.Lock()
        """What a model takes of this process shows while no other one is loaded."""
        self._some = asyncio.Semaphore(_SANDBOXES_AT_ONCE)
        self._trimmed_at = 0.0
        self._trimming: asyncio.Task[int] | None = None
        self.loads = self.evictions = 0

    @property
    def bounded(self) -> bool:
        """Whether there is a budget."""
        return self._budget > 0

    @property
    def loaded(self) -> int:
        """Models in memory."""
        return sum(lane.loaded for lane in self._lanes)

    @property
    def cold(self) -> int:
        """Models that are loaded when somebody asks."""
        return sum(lane.asleep for lane in self._lanes)

    def add(self, lane: Lane) -> None:
        """A lane whose model may come and go."""
        self._lanes.add(lane)

    async def load(self, lane: Lane, variant: Variant, open: Callable[[], Awaitable[None]]) -> None:
        """Open a lane's model, with room made before by what it took last, and after by what it takes."""
        async with AsyncExitStack() as turn:
            if variant.format == "onnx":
                await turn.enter_async_context(self._one)
            if self.bounded:
                if variant.format != "onnx":
                    await turn.enter_async_context(self._some)
                self._make_room(lane, lane.cost_bytes)
            await open()
        self.loads += 1
        self._make_room(lane, 0)

    def proven(self, variant: Variant) -> bool:
        """Whether a version was loaded and has answered on this host, so that it need not be again before it serves."""
        path = self._packages.proof(variant.digest)
        return self.bounded and path.exists() and path.read_bytes() == _proof(variant)

    def note(self, variant: Variant) -> None:
        """It has."""
        if self.bounded:
            tell(self._packages.proof(variant.digest), _proof(variant))

    def _make_room(self, comes: Lane, needed: int) -> None:
        """The longest unasked leave first; one that is at work stays, and all others too where that is not enough."""
        if not self.bounded:
            return
        sizes = {lane: lane.memory_bytes for lane in self._lanes if lane is not comes}
        left = self._budget - needed - comes.memory_bytes - sum(sizes.values())
        for lane in sorted(sizes, key=lambda lane: lane.used_at) if left < 0 else ():
            if sizes[lane] and lane.sleep():
                self.evictions += 1
                left += sizes[lane]
                self._trim()
            if left >= 0:
                break

    def _trim(self) -> None:
        """Give back to the operating system what the C library keeps of models that left, in a thread."""
        if time.monotonic() - self._trimmed_at > _TRIM_S and (self._trimming is None or self._trimming.done()):
            self._trimmed_at = time.monotonic()
            self._trimming = asyncio.ensure_future(asyncio.to_thread(_give_back))


def _give_back() -> int:
    try:
        return ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # another C library than GNU's
        return 0


def _proof(variant: Variant) -> bytes:
    """What was tried: bytes are checked at each load, this is about what they were asked."""
    said = f"{version()} {variant.format} {variant.model_schema.model_dump_json()}"
    return sha256(said.encode()).hexdigest().encode()
