"""One input record on its way to an answer or a refusal."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from services.kit.errors import Refusal
from services.kit.transactional import Incoming

from ..logrecord import LogRecord
from ..served import Ask
from ..v2 import Request
from ..v2.rows import Row
from .wire import Envelope

if TYPE_CHECKING:
    from .scoring import Scoring

T = TypeVar("T")


@dataclass(slots=True)
class Item:
    """In the end it has an answer or a refusal."""

    record: Incoming
    body: bytes
    """The record's value, empty where it has none."""
    envelope: Envelope | None = None
    is_event: bool = False
    """Its envelope is whole: it has an id of ours, whatever else is wrong with it."""
    inference_id: str = ""
    key: int = 0
    """See `domain.key_of`."""
    asked: Request | Row | None = None
    refusal: Refusal | None = None
    answer: bytes | None = None
    repeats: "Item | None" = None
    """An earlier record of the same batch that says the same event."""
    told: bool = False
    """It was answered in an earlier transaction: say the same again, log nothing."""
    scoring: "Scoring | None" = None
    """Who answers it, where the endpoint has a choice; else the batch's."""
    instead_of: str | None = None
    """The variant that was to answer it and failed."""

    @property
    def logged(self) -> bytes:
        """The request as the log says it."""
        return self.asked.logged if isinstance(self.asked, Request) else self.body

    @property
    def rows(self) -> int:
        """How many rows it asks for; 1 while that is unknown."""
        return self.asked.rows if isinstance(self.asked, Request) else 1

    @property
    def params(self) -> bytes:
        """What it sets of the model."""
        return self.asked.params if isinstance(self.asked, Request) else b""


@dataclass
class Turn:
    """What one lane is doing, until its transaction is known to be durable or given up."""

    keys: set[int] = field(default_factory=set[int])
    answered: list[int] = field(default_factory=list[int])
    """The keys of new answers, in the order of their places."""
    places: list[int] = field(default_factory=list[int])
    copies: list[tuple[Ask, LogRecord, str]] = field(default_factory=list[tuple[Ask, LogRecord, str]])
    """For shadows, of what is answered once this is durable: request, record and application."""
    over: asyncio.Event = field(default_factory=asyncio.Event)


async def in_pieces(items: Sequence[T], most: int = 500) -> AsyncIterator[Sequence[T]]:
    """A long piece of work in short ones. Between them others have their turn: a transaction takes half a dozen
    requests one after the other, and each would wait for the whole of another lane's micro-batch."""
    for start in range(0, len(items), most):
        yield items[start : start + most]
        await asyncio.sleep(0)
