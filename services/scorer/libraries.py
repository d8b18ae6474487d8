"""Libraries that models bring are installed before any process is told to load them: that may take minutes."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from services.kit.environments import Environments
from services.kit.errors import Unavailable
from services.kit.telemetry import get_logger

from .settings import ScorerSettings

log = get_logger(__name__)

_UNUSED_S = 86_400.0


class Libraries:
    """What is being installed on this host."""

    def __init__(self, settings: ScorerSettings, needed: Callable[[], Iterable[bytes | None]]) -> None:
        """`needed`: the locks of all models that are served or shall be; called in a thread."""
        self._environments = Environments.of(settings)
        self._most = settings.environments_bytes
        self._installing: dict[Path, asyncio.Task[Path]] = {}
        self._needed = needed

    def require(self, lock: bytes | None) -> None:
        """Begin to install what is not there. Raises Unavailable while that goes on, Invalid where it cannot be."""
        if lock is None:
            return
        place = self._environments.path(lock)
        if task := self._installing.get(place):
            if not task.done():
                raise Unavailable("the model's libraries are being installed")
            del self._installing[place]
            task.result()
        elif self._environments.there(lock) is None:
            self._installing[place] = asyncio.create_task(self._install(lock), name=f"libraries {place.parent.name}")
            raise Unavailable("the model's libraries are being installed")

    async def _install(self, lock: bytes) -> Path:
        """Make room once what is new is there."""
        place = await self._environments.built(lock)
        for gone in await asyncio.to_thread(self._make_room, place):
            log.info("libraries that no model needs are gone", environment=gone)
        return place

    def _make_room(self, place: Path) -> list[str]:
        needed = {self._environments.path(lock) for lock in self._needed() if lock is not None}
        return self._environments.prune(needed | {place}, self._most, _UNUSED_S)
