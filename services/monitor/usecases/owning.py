"""Rounds over endpoints: each for itself, by the one worker that owns it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from services.kit.again import each
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx

from .. import store

One = TypeVar("One", bound=tuple[Any, ...])


async def every(job: str, endpoints: Iterable[One], work: Callable[[One], Awaitable[None]]) -> dict[str, str]:
    """Do the work for each endpoint, whose name comes first; answers by name why it failed, where it did. The next
    round tries again. Where infrastructure is away all would fail: that is raised."""
    return {one[0]: f"{type(error).__name__}: {error}" for one, error in await each(job, endpoints, work)}


@asynccontextmanager
async def owned(db: Database, name: str, unit: str) -> AsyncGenerator[Tx | None]:
    """A transaction of an endpoint's owner; None where another worker owns it."""
    with use(Context(system("monitor", unit))):
        async with db.transaction() as tx:
            yield tx if await store.own(tx.session, name) else None
