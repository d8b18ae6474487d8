"""Decisions found again: by id, by who was decided about, by when."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import pyarrow.compute as pc

from services.kit.context import EVERY_UNIT, current
from services.kit.db import Database
from services.kit.errors import Invalid, NotFound

from .. import store
from ..domain.layout import Place
from ..files import Files, Lost
from ..store import DecisionRow, Followed, OutcomeRow, Wanted

_ROWS_AT_MOST = 1_000
_OUTCOMES_AT_MOST = 10
"""Of each decision in a list."""
_PAYLOAD = ("features", "texts", "unread", "prediction", "prediction_text")
"""Null in all rows of an inference whose payload was not logged; `unread` is in row 0 alone of any."""
_Rows = tuple[list[dict[str, Any]], bool]
"""Rows, and whether anything of the payload was logged."""


@dataclass(frozen=True)
class Decision:
    """One recorded inference with some of its rows and what followed from them."""

    index: DecisionRow
    rows: list[dict[str, Any]]
    sampled: bool
    """Whether anything of its payload was logged, of whichever row."""
    outcomes: list[OutcomeRow]
    observed: int
    """Of how many of all its rows an outcome is known."""


@dataclass(frozen=True)
class _Place:
    """Where a decision's rows are, and what the books have of those that are asked for."""

    index: DecisionRow
    place: Place
    outcomes: list[OutcomeRow]
    observed: int


class Reading:
    """Reads under the caller's units."""

    def __init__(self, db: Database, files: Files) -> None:
        self._db = db
        self._files = files

    async def decision(self, inference_id: str, first: int = 0) -> Decision:
        """With its rows from number `first` on, as many as are read at once. Raises NotFound, for a decision whose rows
        are lost too, and Invalid for rows that it never had."""
        known = await self._look(inference_id, first)
        if first and first >= known.index.rows:
            raise Invalid(f"row: the decision has {known.index.rows} rows; they count from 0", "row")
        try:
            rows, sampled = await asyncio.to_thread(self._rows, known.place, inference_id, first)
        except Lost:
            place, known = known.place, await self._look(inference_id, first)
            rows, sampled = await self._moved(place, known.place, inference_id, first)
        if not rows:
            raise NotFound("this decision has no rows")
        return Decision(known.index, rows, sampled, known.outcomes, known.observed)

    async def _look(self, inference_id: str, first: int) -> _Place:
        async with self._db.reading() as session:
            index, place = await store.decision(session, inference_id)
            outcomes = await store.outcomes(session, inference_id, first, _ROWS_AT_MOST)
            return _Place(index, place, outcomes, await store.count_observed(session, inference_id))

    async def _moved(self, place: Place, moved: Place, inference_id: str, first: int) -> _Rows:
        """The rows, where they were moved into another file just now. Raises NotFound."""
        try:
            if moved != place:
                return await asyncio.to_thread(self._rows, moved, inference_id, first)
        except Lost:
            pass
        raise NotFound("the rows of this decision are lost: their file cannot be read")

    async def decisions(
        self, wanted: Wanted, before: tuple[datetime, str] | None, limit: int
    ) -> list[tuple[DecisionRow, Followed]]:
        """Newest first, each with what followed from it. Raises Invalid where it takes too long."""
        seen = current().caller.units
        units = None if EVERY_UNIT in seen else sorted(seen)
        async with self._db.reading() as session:
            found = await store.decisions(session, wanted, before, limit, units)
            followed = await store.followed(session, [each.inference_id for each in found], _OUTCOMES_AT_MOST)
        return [(each, followed.get(each.inference_id, Followed())) for each in found]

    def _rows(self, place: Place, inference_id: str, first: int) -> _Rows:
        found = self._files.find(place, [inference_id])
        wanted = found.filter(pc.field("row") >= first)
        sampled = any(found[name].null_count < found.num_rows for name in _PAYLOAD if name in found.column_names)
        return [_row(row) for row in wanted.slice(0, _ROWS_AT_MOST).to_pylist()], sampled


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the file with its maps as objects and its payload, if it was not read, as JSON."""
    features = dict(row.pop("features") or ()) | {k: v for k, v in row.pop("texts") or () if v is not None}
    text, number = row.pop("prediction_text"), row.pop("prediction")
    unread = row.pop("unread")
    params = row.pop("params", None)
    return {"instead_of": None, "shadow_of": None} | row | {
        "features": features, "prediction": number if text is None else text,
        "unread": orjson.loads(unread) if unread else None, "params": orjson.loads(params) if params else None,
    }  # fmt: skip
