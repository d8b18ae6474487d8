"""A decision of many rows, as a chunk of a batch is: every one of them is found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contracts import Service
from services.kit.db import Database
from services.kit.errors import Invalid
from services.kit.service import Parts
from services.recorder import api
from services.recorder.domain.layout import Body
from services.recorder.settings import RecorderSettings

from .house import House
from .test_handlers import Client
from .test_joining import joining

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


async def test_over_http_a_page_has_the_outcomes_of_its_rows_and_says_what_holds_for_the_whole_decision(
    service_db: Callable[[Service], Database], home: Path
) -> None:
    house = House(service_db("recorder"), RecorderSettings(home=home))
    routes = api.router(house.reading, joining(house), house.snapshots, house.erasing)
    client = Client(Parts("recorder", house.settings, house.db, [routes]), house.settings)
    unread = Body({}, None, None, unread=('{"inputs": []}', "null"))
    await house.write([house.head("chunk", 0, 1_200), house.head("after", 0, 1)], unread)
    await house.write([house.head("unlogged", 0, 3)], Body({}, np.full(3, np.nan), None))
    for row in (0, 999, 1_000, 1_199):
        await house.observe("chunk", row, 1.0)
    for first, observed in ((0, [0, 999]), (1, [999, 1_000]), (1_000, [1_000, 1_199]), (1_001, [1_199])):
        told = (await client.get(f"/v1/decisions/chunk?row={first}")).json()
        assert told["decided"][0]["row"] == first and len(told["decided"]) == min(1_000, 1_200 - first)
        assert [each["row"] for each in told["outcomes"]] == observed
        assert (told["observed"], told["sampled"]) == (4, True)
    assert not (await client.get("/v1/decisions/unlogged")).json()["sampled"]
    beyond = await client.get("/v1/decisions/chunk?row=1200")
    assert beyond.status_code == 422 and "1200 rows" in beyond.text
