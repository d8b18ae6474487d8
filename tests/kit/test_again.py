"""Loops over many: one that fails stops no other; where infrastructure is away all stop."""

import asyncio

import pytest

from services.kit.again import again, each
from services.kit.errors import Unavailable
from services.kit.health import Progress


async def test_one_that_fails_stops_no_other_and_is_told() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        if number == 2:
            raise ZeroDivisionError("two")
        done.append(number)

    ((item, error),) = await each("numbers", [1, 2, 3], work)
    assert (done, item, str(error)) == ([1, 3], 2, "two")


async def test_where_infrastructure_is_away_the_rest_is_not_tried() -> None:
    tried: list[int] = []

    async def work(number: int) -> None:
        tried.append(number)
        raise Unavailable("Kafka is away")

    with pytest.raises(Unavailable):
        await each("numbers", [1, 2], work)
    assert tried == [1]


async def test_a_job_that_awaited_something_cancelled_is_started_again() -> None:
    """Otherwise it would be gone without a word: nobody told it to end."""
    tries: list[int] = []

    async def job() -> None:
        tries.append(1)
        if len(tries) == 1:
            lost = asyncio.create_task(asyncio.sleep(60))
            lost.cancel()
            await lost

    await asyncio.wait_for(again("job", job, Progress()), 10)
    assert len(tries) == 2


async def test_a_job_that_is_told_to_end_ends() -> None:
    begun = asyncio.Event()

    async def job() -> None:
        begun.set()
        await asyncio.sleep(60)

    running = asyncio.create_task(again("job", job, Progress()))
    await begun.wait()
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
