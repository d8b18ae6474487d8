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


@dataclass(frozen=True)
class Decision:
    """One recorded inference with its rows and what followed."""

    index: DecisionRow
    rows: list[dict[str, Any]]
    outcomes: list[OutcomeRow]

    @property
    def sampled(self) -> bool:
        """Whether anything of its payload was logged."""
        return any(row["features"] or row["unread"] or row["prediction"] is not None for row in self.rows)


class Reading:
    """Reads under the caller's units."""

    def __init__(self, db: Database, files: Files) -> None:
        self._db = db
        self._files = files

    async def decision(self, inference_id: str, first: int = 0) -> Decision:
        """With its rows from number `first` on, as many as are read at once. Raises NotFound, for a decision whose rows
        are lost too, and Invalid for rows that it never had."""
        index, place, outcomes = await self._look(inference_id)
        if first and first >= index.rows:
            raise Invalid(f"row: the decision has {index.rows} rows; they count from 0", "row")
        try:
            rows = await asyncio.to_thread(self._rows, place, inference_id, first)
        except Lost:
            index, moved, outcomes = await self._look(inference_id)
            rows = await self._moved(place, moved, inference_id, first)
        if not rows:
            raise NotFound("this decision has no rows")
        return Decision(index, rows, outcomes)

    async def _look(self, inference_id: str) -> tuple[DecisionRow, Place, list[OutcomeRow]]:
        async with self._db.reading() as session:
            index, place = await store.decision(session, inference_id)
            return index, place, await store.outcomes(session, inference_id)

    async def _moved(self, place: Place, moved: Place, inference_id: str, first: int) -> list[dict[str, Any]]:
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

    def _rows(self, place: Place, inference_id: str, first: int) -> list[dict[str, Any]]:
        found = self._files.find(place, [inference_id])
        wanted = found.filter(pc.field("row") >= first)
        return [_row(row) for row in wanted.slice(0, _ROWS_AT_MOST).to_pylist()]


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
