"""A model that another server answers for: asked with a deadline, a retry budget and a circuit breaker."""

import asyncio
import random
import time
from collections.abc import Callable
from math import ceil

import httpx

from services.kit.connections import Connections, HttpsConnection
from services.kit.errors import Unavailable

from .. import Asked, Told, declared_inputs
from ..wire import Tensors, WireError
from .guard import Breaker, RetryBudget
from .protocols import Talk
from .spec import External

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes."""
_REFUSING = frozenset({400, 413, 422})
"""What the server says of an input; whatever else is no success says something of the server, or of how it is asked."""
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What may be otherwise at once."""
_PAUSE_S = 0.05


class RemoteRefused(ValueError):
    """The server does not take this input; in its own words."""


class _Failed(Exception):
    """A call that came to nothing; `again`: it may be repeated."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class ExternalModel:
    """One model behind one connection."""

    def __init__(
        self, external: External, asked: Asked, connections: Connections, unit: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._external, self._connections, self._unit = external, connections, unit
        inputs = declared_inputs(asked)
        self._talk = Talk(external, inputs, asked.outputs, asked.columns)
        self._told = Told(
            inputs=inputs, outputs=asked.outputs, prediction=asked.prediction, score=asked.score,
            made_with=f"{external.protocol} over connection {external.connection}",
        )  # fmt: skip
        self._breaker, self._budget = Breaker(), RetryBudget(external.retry_ratio)
        self._client: tuple[HttpsConnection, httpx.AsyncClient] | None = None
        self._last = ""

    async def start(self) -> None:
        """See that it may be called. Raises Invalid where the connection is not approved, Unavailable."""
        self._connection()

    async def told(self) -> Told:
        """What its package says of it."""
        return self._told

    async def structure(self) -> Tensors:
        """A server shows nothing of its inside."""
        return {}

    async def predict(self, inputs: Tensors) -> Tensors:
        """All outputs for all inputs, within `timeout_s`.

        Raises RemoteRefused where the server does not take them, WireError for what is no answer of the declared form,
        Unavailable where it is away or the circuit is open, Invalid where the connection is no longer approved.
        """
        try:
            body, rows = self._talk.request(inputs), len(next(iter(inputs.values())))
        except WireError as error:  # a BYTES element that JSON cannot carry
            raise RemoteRefused(str(error)) from None
        connection = self._connection()
        if (call := self._breaker.enter(self._clock())) is None:
            raise Unavailable(f"{self._name}: {self.down}", self._breaker.left_s(self._clock()))
        settled = False
        try:
            said = await self._within(connection, body)
            settled = True
        except _Failed as failure:
            settled, self._last = True, str(failure)
            self._breaker.failed(call, self._clock())
            raise Unavailable(f"{self._name}: {failure}") from None
        except (RemoteRefused, WireError):
            settled = True
            self._breaker.succeeded(call)
            raise
        finally:
            if not settled:
                self._breaker.left(call)
        self._breaker.succeeded(call)
        return self._talk.answer(said, rows)

    @property
    def down(self) -> str:
        """Why it is not asked as usual; empty while calls pass."""
        now = self._clock()
        if self._breaker.state(now) == "closed":
            return ""
        return f"it failed too often ({self._last}); it is asked again in {ceil(self._breaker.left_s(now))} s"

    @property
    def away(self) -> str:
        """Why nothing is asked; empty while a call would pass, be it a trial."""
        return self.down if self._breaker.state(self._clock()) == "open" else ""

    async def close(self) -> None:
        """Let go of its sockets."""
        if self._client:
            await self._client[1].aclose()

    @property
    def _name(self) -> str:
        return f"connection {self._external.connection}"

    def _connection(self) -> HttpsConnection:
        return self._connections.https(self._external.connection, self._unit)

    async def _within(self, connection: HttpsConnection, body: bytes) -> bytes:
        self._budget.called()
        try:
            async with asyncio.timeout(self._external.timeout_s):
                return await self._repeated(connection, body)
        except TimeoutError:
            raise _Failed(f"no answer within {self._external.timeout_s:g} s", again=False) from None

    async def _repeated(self, connection: HttpsConnection, body: bytes) -> bytes:
        """Once more where that may help: to score is to ask, so nothing happens twice."""
        try:
            return await self._once(connection, body)
        except _Failed as failure:
            if not failure.again or not self._budget.take():
                raise
        await asyncio.sleep(_PAUSE_S * (0.5 + random.random()))
        return await self._once(connection, body)

    async def _once(self, connection: HttpsConnection, body: bytes) -> bytes:
        # No compression: what comes is counted as it comes.
        headers = {"content-type": "application/json", "accept-encoding": "identity"} | connection.secrets()
        client = await self._client_of(connection)
        try:
            async with client.stream("POST", connection.at(self._external.path), content=body, headers=headers) as got:
                said = await _read(got)
        except httpx.HTTPError as error:
            raise _Failed(f"it cannot be reached ({type(error).__name__})", again=True) from None
        if got.status_code in _REFUSING:
            raise RemoteRefused(f"status {got.status_code}: {said[:300].decode(errors='replace')}")
        if not got.is_success:
            raise _Failed(f"it answers with status {got.status_code}", again=got.status_code in _PASSING)
        return said

    async def _client_of(self, connection: HttpsConnection) -> httpx.AsyncClient:
        """Another one when the administrator changed the connection."""
        if self._client and self._client[0] is connection:
            return self._client[1]
        before, client = self._client, connection.client()
        self._client = connection, client  # before anything is awaited: another call would make one, too
        if before:
            await before[1].aclose()
        return client


async def _read(got: httpx.Response) -> bytes:
    """A body as it came. Raises WireError for one that is too large or packed though nobody asked for that."""
    if got.headers.get("content-encoding", "identity") != "identity":
        raise WireError("its answer is compressed, which was not asked for")
    said = bytearray()
    async for chunk in got.aiter_raw():
        said += chunk
        if len(said) > MAX_ANSWER:
            raise WireError(f"its answer is larger than {MAX_ANSWER} bytes")
    return bytes(said)
