"""What models need is brought to a host before any process is told to load them: that may take minutes."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from services.kit.environments import Environments
from services.kit.errors import Refusal, Unavailable
from services.kit.objects import Objects
from services.kit.telemetry import get_logger

from .packages import Packages
from .runtimes.errors import CannotLoad
from .settings import ScorerSettings

log = get_logger(__name__)

_KEEP_S = 3600.0


class Libraries:
    """What is being installed on this host, and what its models stand on."""

    def __init__(self, settings: ScorerSettings, packages: Packages) -> None:
        self._environments = Environments.of(settings)
        self._packages = packages
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

    async def keep(self, needed: Callable[[], Collection[str]]) -> None:
        """Until cancelled: what served models stand on is in use, though it was loaded long ago.

        `needed`: the digests of all packages that are served or shall be. One that cannot be read holds up no other.
        """
        while True:
            await asyncio.to_thread(self._keep, tuple(needed()))
            await asyncio.sleep(_KEEP_S)

    def _keep(self, digests: Collection[str]) -> None:
        for digest in digests:
            try:
                if lock := self._packages.lock(digest):
                    self._environments.keep([lock])
            except (Refusal, CannotLoad, OSError) as error:
                log.warning("what a model stands on is not known", digest=digest, reason=str(error)[:200])


async def bring(digests: Iterable[str], packages: Packages, objects: Objects, libraries: Libraries) -> None:
    """Fetch what is not here, or not whole. Raises Unavailable where that goes on or cannot be now, a Refusal or
    CannotLoad."""
    for digest in digests:
        if not await asyncio.to_thread(packages.whole, digest):
            log.info("a package is fetched", digest=digest)
            await objects.fetch(digest, packages.path(digest), kept=True)
        await libraries.require(await asyncio.to_thread(packages.lock, digest))
