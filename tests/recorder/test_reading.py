"""A decision of many rows, as a chunk of a batch is: every one of them is found."""

import pytest

from services.kit.errors import Invalid

from .house import House

pytestmark = pytest.mark.usefixtures("as_the_recorder")


@pytest.mark.parametrize(("first", "told"), [(0, range(1_000)), (2_400, range(2_400, 2_500))])
async def test_a_decision_of_many_rows_is_told_from_any_of_them_on(house: House, first: int, told: range) -> None:
    await house.many([house.head("before", 0, 3), house.head("chunk", 0, 2_500), house.head("after", 0, 3)])
    found = await house.reading.decision("chunk", first)
    assert [row["row"] for row in found.rows] == list(told) and found.index.rows == 2_500


async def test_a_row_that_a_decision_never_had_is_refused_by_its_number(house: House) -> None:
    await house.many([house.head("chunk", 0, 3)])
    with pytest.raises(Invalid, match="row: the decision has 3 rows"):
        await house.reading.decision("chunk", 3)
