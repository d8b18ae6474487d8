"""Packages that were lost or altered since they were fetched are fetched again."""

import asyncio
from collections.abc import Callable, Collection

from services.kit.again import Backoff
from services.kit.errors import Refusal, Unavailable
from services.kit.objects import Objects
from services.kit.telemetry import get_logger

from .libraries import Libraries, bring
from .packages import Packages
from .runtimes.errors import CannotLoad

log = get_logger(__name__)

_LOOK_S, _LONGEST_PAUSE_S = 1.0, 10.0


class Mending:
    """A state that was taken is not taken again: what a disk lost of it since, or somebody swapped, is brought here.

    All that is needed is looked at when the host starts; later, what one of its processes did not find whole.
    """

    def __init__(self, packages: Packages, objects: Objects, libraries: Libraries) -> None:
        self._packages, self._objects, self._libraries = packages, objects, libraries

    async def run(self, needed: Callable[[], Collection[str]]) -> None:
        """Until cancelled. `needed`: the digests of all packages that are served or shall be."""
        backoff, due = Backoff(_LOOK_S, _LONGEST_PAUSE_S), set(needed())
        while True:
            due = {digest for digest in due if not await self._mended(digest)}
            await asyncio.sleep(backoff.pause() if due else _LOOK_S)
            due |= await asyncio.to_thread(self._packages.lacking)
            if due:
                wanted = set(needed())
                for digest in due - wanted:
                    self._packages.lacks_no_more(digest)
                due &= wanted

    async def _mended(self, digest: str) -> bool:
        try:
            await bring([digest], self._packages, self._objects, self._libraries)
            self._packages.lacks_no_more(digest)
        except (Refusal, CannotLoad, OSError) as error:
            log.warning("what a served model needs is not here", digest=digest, reason=str(error)[:300])
            is_lost = not isinstance(error, OSError | Unavailable)
            if is_lost and not await asyncio.to_thread(self._packages.whole, digest):
                await asyncio.to_thread(self._packages.lacks_in_vain, digest, str(error)[:300])
            return False
        return True
