"""Questions of pure algorithms, answered by a model."""

from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

from .domain import Array

T = TypeVar("T")


async def answered(asking: Generator[Array, Array, T], answer: Callable[[Array], Awaitable[Array]]) -> T:
    """What a generator ends with that asks about rows and hears of each time what the model says."""
    try:
        asked = next(asking)
        while True:
            asked = asking.send(await answer(asked))
    except StopIteration as ended:
        return ended.value
