"""Who is asking, on whose behalf, and within which story: carried beside the call, not through it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Literal

from contracts import Service

from .ids import uuid7

EVERY_UNIT = "*"


@dataclass(frozen=True)
class Caller:
    """A person, an application or a service, as its token or its principal proves."""

    actor: str
    kind: Literal["person", "application", "service"]
    roles: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()
    expires: float = field(default=math.inf, compare=False)
    """When the token ends, in seconds since 1970: what goes on without an end for this caller ends then."""

    def sees(self, unit: str) -> bool:
        """Whether rows of this business unit are visible to the caller."""
        return unit in self.units or EVERY_UNIT in self.units


def system(service: Service, unit: str = EVERY_UNIT) -> Caller:
    """The service itself, acting in one unit or in all."""
    return Caller(f"service:{service}", "service", frozenset({"service"}), frozenset({unit}))


@dataclass(frozen=True)
class Place:
    """Where an event lies."""

    topic: str
    partition: int
    offset: int
    end: int | None
    """The partition's end when it was read; None where nobody knows it any more."""


@dataclass
class Claim:
    """The event in hand: the one transaction of its handler writes it, so that a repeat has no second effect."""

    key: str
    place: Place | None = None
    """Where the event lies in its topic; None for what came another way."""
    taken: bool = False
    """Whether the transaction that writes it is open or committed: only that one's rollback gives it back."""


@dataclass(frozen=True)
class Context:
    """One request or one event in hand."""

    caller: Caller
    correlation_id: str = field(default_factory=lambda: str(uuid7()))
    traceparent: str = field(default_factory=lambda: f"00-{token_hex(16)}-{token_hex(8)}-01")
    claim: Claim | None = None


_current: ContextVar[Context | None] = ContextVar("fairlead_context", default=None)


def current() -> Context:
    """The context of the running call. Outside of any there is none to guess: that is a bug."""
    context = _current.get()
    if context is None:
        raise LookupError("no caller in this context: wrap the work in `use(Context(...))`")
    return context


def maybe_current() -> Context | None:
    """The context of the running call; None outside of any."""
    return _current.get()


@contextmanager
def use(context: Context) -> Iterator[Context]:
    """Run a block as somebody."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
