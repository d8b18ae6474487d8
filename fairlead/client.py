"""The Python client: `Fairlead` blocks, `AsyncFairlead` is awaited; both have the same operations."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from .events import EventStream
from .operations import Operations
from .where import find
from .wire import Flow, R, drive, drive_async

_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_CONNECTING = 2
"""A refused connection had no effect: it is tried again, so that a restart behind the address goes unnoticed."""


class _Client(Operations):
    """What both clients share: the place, and the stream of events."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        home: str | Path | None = None,
        acting_as: str | None = None,
    ) -> None:
        super().__init__()
        self.place = find(url, token, home, acting_as)

    def events(self, *topics: str, since: str = "now") -> EventStream:
        """Events as they happen, for `async for` or `for`; what the token may see.

        `since` is `now` or `start` (as far back as the topic remembers).

        >>> async for event in fl.events("drift.detected"):          # doctest: +SKIP
        ...     print(event.subject, event.fact.features)
        """
        return EventStream(self.place, topics, since)


class Fairlead(_Client):
    """The platform, for scripts and notebooks.

    It is found by its arguments, by FAIRLEAD_URL and FAIRLEAD_TOKEN, or by FAIRLEAD_HOME
    (default `.fairlead`), where FAIRLEAD_AS names the person to act as (default `admin`).

    >>> fl = Fairlead()                                              # doctest: +SKIP
    >>> fl.register("model.onnx", name="credit")                     # doctest: +SKIP
    >>> fl.score("credit", [{"income": 1200, "age": 44}]).predictions  # doctest: +SKIP
    [1]
    """

    def __init__(self, *args: Any, transport: httpx.BaseTransport | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = httpx.Client(timeout=_TIMEOUT, transport=transport or httpx.HTTPTransport(retries=_CONNECTING))

    def perform(self, flow: Flow[R], /) -> R:
        """Run an operation's steps to their end."""
        return drive(flow, self._http, self.place)

    def close(self) -> None:
        """Close the connections to the platform."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class AsyncFairlead(_Client):
    """The platform, for asynchronous applications: the same operations, awaited.

    >>> async with AsyncFairlead() as fl:                            # doctest: +SKIP
    ...     scores = await fl.score("credit", rows)
    """

    def __init__(self, *args: Any, transport: httpx.AsyncBaseTransport | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = httpx.AsyncClient(
            timeout=_TIMEOUT, transport=transport or httpx.AsyncHTTPTransport(retries=_CONNECTING)
        )

    async def perform(self, flow: Flow[R], /) -> R:
        """Run an operation's steps to their end."""
        return await drive_async(flow, self._http, self.place)

    async def aclose(self) -> None:
        """Close the connections to the platform."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.aclose()
