"""Who takes part in the story, and what they share."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from fairlead import AsyncFairlead
from fairlead.errors import FairleadError

T = TypeVar("T")
PEOPLE = ("data-scientist", "engineer", "compliance", "application")
USE_CASE = "job-counselling"


@dataclass
class Cast:
    """The people of the platform, each with a token of their own."""

    home: Path
    places: dict[str, str]
    clients: dict[str, AsyncFairlead]
    endpoint: str = field(default_factory=lambda: f"employment-{datetime.now(UTC):%m%d-%H%M%S}")

    @classmethod
    def of(cls, home: Path) -> Self:
        places = json.loads((home / "endpoints.json").read_text())
        return cls(home, places, {who: AsyncFairlead(home=home, acting_as=who) for who in PEOPLE})

    def __getitem__(self, who: str) -> AsyncFairlead:
        return self.clients[who]

    def token(self, who: str) -> str:
        return (self.home / "tokens" / f"{who}.jwt").read_text().strip()

    async def close(self) -> None:
        for client in self.clients.values():
            await client.aclose()


def home() -> Path:
    return Path(os.environ.get("FAIRLEAD_HOME") or ".fairlead")


class DidNotHappen(Exception):
    """A step of the story was waited for in vain, or did not turn out as the story tells it."""


def holds(true: bool, otherwise: str) -> None:
    """What the story says next is true. Raises DidNotHappen, saying what is the case otherwise."""
    if not true:
        raise DidNotHappen(otherwise)


async def until(what: str, look: Callable[[], Awaitable[T | None]], within_s: float = 60.0) -> T:
    """The first thing that `look` finds. Raises DidNotHappen."""
    deadline = asyncio.get_running_loop().time() + within_s
    last: Any = None
    while asyncio.get_running_loop().time() < deadline:
        try:
            if (found := await look()) is not None:
                return found
        except FairleadError as error:
            last = error
        await asyncio.sleep(0.2)
    raise DidNotHappen(f"{what} did not happen within {within_s:.0f} s{f': {last}' if last else ''}")
