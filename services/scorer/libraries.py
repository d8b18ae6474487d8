"""What models need is brought to a host before any process is told to load them: that may take minutes."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from contracts import Variant
from services.kit.environments import Environments
from services.kit.errors import Unavailable
from services.kit.objects import Objects

from .packages import Packages
from .settings import ScorerSettings

_KEEP_S = 3600.0


class Libraries:
    """What is being installed on this host, and what its models stand on."""

    def __init__(self, settings: ScorerSettings, needed: Callable[[], Iterable[bytes | None]]) -> None:
        """`needed`: the locks of all models that are served or shall be; called in a thread."""
        self._environments = Environments.of(settings)
        self._needed = needed
        self._installing: dict[Path, asyncio.Task[Path]] = {}

    async def require(self, lock: bytes | None) -> None:
        """Begin to install what is not there. Raises Unavailable while that goes on, Invalid where it cannot be."""
        if lock is None:
            return
        place = self._environments.path(lock)
        if task := self._installing.get(place):
            if not task.done():
                raise Unavailable("the model's libraries are being installed")
            del self._installing[place]
            task.result()
        elif await asyncio.to_thread(self._environments.there, lock) is None:
            self._installing[place] = asyncio.create_task(
                self._environments.built(lock), name=f"libraries {place.parent.name}"
            )
            raise Unavailable("the model's libraries are being installed")

    async def keep(self) -> None:
        """Until cancelled: what served models stand on is in use, though it was loaded long ago."""
        while True:
            await asyncio.to_thread(lambda: self._environments.keep(lock for lock in self._needed() if lock))
            await asyncio.sleep(_KEEP_S)


async def bring(variants: Iterable[Variant], packages: Packages, objects: Objects, libraries: Libraries) -> None:
    """Fetch what is not here yet. Raises Unavailable where that goes on or cannot be now, a Refusal or CannotLoad."""
    for variant in variants:
        if not await asyncio.to_thread(packages.whole, variant.digest):
            await objects.fetch(variant.digest, packages.path(variant.digest))
        await libraries.require(await asyncio.to_thread(packages.lock, variant.digest))
