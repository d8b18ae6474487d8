"""The join without its streams: one row that cannot be said stops no other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import text

from contracts import OutcomeObserved
from services.kit.burial import Burial
from services.kit.producer import Outgoing
from services.kit.settings import Settings
from services.recorder import store
from services.recorder.domain.layout import SCHEMA, Body
from services.recorder.domain.outcomes import Report
from services.recorder.usecases.joining import Joining
from services.recorder.usecases.schemas import Schemas

from . import house as houses
from .house import House

pytestmark = pytest.mark.usefixtures("as_the_recorder")


@dataclass
class Heard:
    """Takes what the join says."""

    events: list[OutcomeObserved] = field(default_factory=list[OutcomeObserved])

    async def send_all(self, messages: Sequence[Outgoing]) -> None:
        self.events += [OutcomeObserved.from_json(value or b"") for _, _, value, _ in messages]


def joining(house: House) -> Joining:
    return Joining(house.db, house.files, Schemas(house.db), Burial(Settings(home=house.settings.home), "recorder"),
                   frozenset())  # fmt: skip


async def reported(house: House, *ids: str) -> None:
    async with house.db.transaction() as tx:
        await store.report(tx.session, [Report(id, 0, 1.0, None, "somebody", None) for id in ids])


async def states(house: House) -> dict[str, tuple[str, str | None]]:
    async with house.db.reading() as session:
        rows = await session.execute(text("SELECT inference_id, state, reason FROM outcome"))
        return {row.inference_id: (row.state, row.reason) for row in rows}


async def test_an_infinite_prediction_of_a_file_of_before_is_observed_as_not_known(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_before(heads: Sequence[houses.Head], body: Body) -> pa.Table:
        made, place = houses_table(heads, body), SCHEMA.get_field_index("prediction")
        return made.set_column(place, SCHEMA.field(place), pa.array([1.0, np.inf], pa.float64()))

    houses_table = houses.table
    monkeypatch.setattr(houses, "table", as_before)
    await house.many([house.head("good", 0), house.head("endless", 1)])
    await reported(house, "good", "endless")
    heard = Heard()
    assert await joining(house).join(heard) == 2  # pyright: ignore[reportArgumentType]
    assert {event.inference_id: event.prediction for event in heard.events} == {"good": 1.0, "endless": None}
    assert await joining(house).join(heard) == 0  # pyright: ignore[reportArgumentType]


async def test_of_a_chunk_the_rows_are_read_that_somebody_reported_and_no_others(house: House) -> None:
    await house.many([house.head("chunk", 0, 3_000), house.head("other", 0, 5)])
    places = [("chunk", 7), ("chunk", 2_999), ("other", 0)]
    async with house.db.transaction() as tx:
        await store.report(tx.session, [Report(id, row, 1.0, None, "somebody", None) for id, row in places])
    async with house.db.transaction() as tx:
        rows = await joining(house)._decided(tx, await store.met(tx.session, 100))
    assert sorted(rows) == places and all(len(row["features"]) == 1 for row in rows.values())
    heard = Heard()
    await joining(house).join(heard)  # pyright: ignore[reportArgumentType]
    assert sorted((event.inference_id, event.row) for event in heard.events) == places


async def test_an_outcome_that_cannot_be_said_is_refused_with_its_reason_and_the_others_are_observed(
    house: House,
) -> None:
    await house.many([house.head("good", 0), house.head("poisoned", 1, model="No Name"), house.head("fine", 2)])
    await reported(house, "good", "poisoned", "fine")
    heard = Heard()
    assert await joining(house).join(heard) == 3  # pyright: ignore[reportArgumentType]
    assert sorted(event.inference_id for event in heard.events) == ["fine", "good"]
    found = await states(house)
    assert found.pop("poisoned")[0] == "refused" and {state for state, _ in found.values()} == {"observed"}
    assert "model" in ((await states(house))["poisoned"][1] or "")
    assert await joining(house).join(heard) == 0  # pyright: ignore[reportArgumentType]
