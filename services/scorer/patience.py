"""How long a caller waits for an answer, and whether it still does: what nobody waits for is not done."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

from .v2 import BadInput
from .wire import Gone

T = TypeVar("T")

HEADER = b"fairlead-timeout"
LINE = "fairlead.line"
"""Where a scope's extensions bear the connection that a request came over."""
_SECONDS = re.compile(rb"\d{1,9}(\.\d{1,9})?")


def limit_of(text: bytes) -> float:
    """What a caller says that it waits, in seconds. Raises BadInput."""
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if not seconds:
        raise BadInput("Fairlead-Timeout is not a number of seconds above 0")
    return seconds


class Line:
    """One connection, for the request that is in hand."""

    __slots__ = ("_gone", "_working")

    def __init__(self) -> None:
        self._gone = False
        self._working: asyncio.Task[Any] | None = None

    def lost(self) -> None:
        """The caller hung up."""
        self._gone = True
        if self._working is not None:
            self._working.cancel()

    async def carry(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what a caller waits for. Raises Gone as soon as it hangs up; the work is cancelled then."""
        if self._gone:
            work.close()
            raise Gone
        task = self._working = asyncio.current_task()
        try:
            return await work
        except asyncio.CancelledError:
            if not self._gone or task is None or task.uncancel():
                raise
            raise Gone from None
        finally:
            self._working = None
