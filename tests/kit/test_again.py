"""Loops over many: one that fails stops no other; where infrastructure is away all stop."""

import pytest

from services.kit.again import each
from services.kit.errors import Unavailable


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
