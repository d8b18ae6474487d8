"""Events of the platform as they happen, read from the console's stream (server-sent events)."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import orjson
from pydantic import ValidationError

from contracts import Event, event_of

from .errors import Failed, FairleadError, Unreachable, error_of
from .where import Place
from .wire import unreachable

_RETRY_S = 1.0
_SILENCE_S = 45.0
"""The console says something every 10 s; a longer silence means that the connection is gone."""


@dataclass(frozen=True)
class Occurrence:
    """One event with its CloudEvents attributes.

    `data` is the JSON as it was published; `fact` the typed event of `contracts`, when the type is known. `time` is
    None where the record says none that can be read: outsiders write some topics.
    """

    id: str
    type: str
    topic: str
    subject: str
    time: datetime | None
    unit: str
    actor: str
    correlation_id: str
    data: dict[str, Any]

    @property
    def fact(self) -> Event | None:
        """The event as its contract types it; None for an unknown type. Raises `Failed` for a body of another shape."""
        known = event_of(self.type)
        try:
            return known.model_validate(self.data) if known else None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise Failed(f"event {self.id} is no {self.type}: {where}: {first['msg']}") from error


class EventStream:
    """The events of some topics from now on (or from the start), for `for` and `async for` alike.

    It reconnects by itself and goes on behind the last event that it gave out; it ends when the loop does.
    """

    def __init__(self, place: Place, topics: Iterable[str], since: str = "now") -> None:
        self._place = place
        self._params = {"topic": ",".join(topics), "since": since}
        self._position: str | None = None
        self._connected = False

    def __iter__(self) -> Iterator[Occurrence]:
        with httpx.Client(timeout=httpx.Timeout(10.0, read=_SILENCE_S)) as http:
            while True:
                try:
                    with http.stream("GET", **self._request()) as response:
                        if response.status_code >= 400:
                            response.read()
                        yield from self._events(self._accept(response).iter_lines())
                except (httpx.TransportError, Unreachable) as problem:
                    self._dropped(problem)
                time.sleep(_RETRY_S)

    async def __aiter__(self) -> AsyncIterator[Occurrence]:
        async with httpx.AsyncClient(timeout=httpx.Timeout(10.0, read=_SILENCE_S)) as http:
            while True:
                try:
                    async with http.stream("GET", **self._request()) as response:
                        if response.status_code >= 400:
                            await response.aread()
                        message = Message()
                        async for line in self._accept(response).aiter_lines():
                            if (event := self._take(message, line)) is not None:
                                yield event
                except (httpx.TransportError, Unreachable) as problem:
                    self._dropped(problem)
                await asyncio.sleep(_RETRY_S)

    def _request(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._place.bearer()}", "Accept": "text/event-stream"}
        if self._position:
            headers["Last-Event-ID"] = self._position
        return {"url": f"{self._place.url}/v1/events", "params": self._params, "headers": headers}

    def _accept(self, response: httpx.Response) -> httpx.Response:
        if response.status_code >= 400:
            raise error_of(response)
        self._connected = True
        return response

    def _dropped(self, problem: Exception) -> None:
        """A stream that never began is an error; one that broke off is begun again."""
        if not self._connected:
            raise problem if isinstance(problem, FairleadError) else unreachable(self._place, problem) from problem

    def _events(self, lines: Iterator[str]) -> Iterator[Occurrence]:
        message = Message()
        for line in lines:
            if (event := self._take(message, line)) is not None:
                yield event

    def _take(self, message: "Message", line: str) -> Occurrence | None:
        document = message.feed(line)
        if line == "" and message.id:  # a message that broke off before its end was not given out
            self._position = message.id
        return _occurrence(document) if document else None


class Message:
    """Lines of `text/event-stream` gathered into messages (WHATWG HTML, 9.2.6; only `id` and `data` matter here)."""

    def __init__(self) -> None:
        self.id: str | None = None
        self._data: list[str] = []

    def feed(self, line: str) -> str | None:
        """Take one line; the message's data when the line ends it."""
        if line == "":
            data, self._data = "\n".join(self._data), []
            return data or None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self.id = value
        return None


def _occurrence(document: str) -> Occurrence:
    try:
        told = orjson.loads(document)
        return Occurrence(
            id=told["id"],
            type=told["type"],
            topic=told.get("topic", told["type"]),
            subject=told.get("subject", ""),
            time=_moment(told.get("time")),
            unit=told.get("unit", ""),
            actor=told.get("actor", ""),
            correlation_id=told.get("correlationid", ""),
            data=told.get("data") or {},
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Failed(f"the platform's stream carries what is no event: {document[:100]}") from error


def _moment(told: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(told)
    except (ValueError, TypeError):
        return None
