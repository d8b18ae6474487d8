"""Decisions found again: by id, by who was decided about, by when."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from services.kit.db import Database
from services.kit.errors import NotFound

from .. import store
from ..files import Files, Lost
from ..store import DecisionRow, OutcomeRow, Wanted

_ROWS_AT_MOST = 1_000


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

    async def decision(self, inference_id: str) -> Decision:
        """Raises NotFound, for a decision whose rows are lost too."""
        async with self._db.reading() as session:
            index = await store.decision(session, inference_id)
            path = (await store.paths(session, [index.file]))[index.file]
            outcomes = await store.outcomes(session, inference_id)
        try:
            rows = await asyncio.to_thread(self._rows, path, inference_id)
        except Lost:
            raise NotFound("the rows of this decision are lost: their file cannot be read") from None
        if not rows:
            raise NotFound("this decision has no rows")
        return Decision(index, rows, outcomes)

    async def decisions(self, wanted: Wanted, before: tuple[datetime, str] | None, limit: int) -> list[DecisionRow]:
        """Newest first."""
        async with self._db.reading() as session:
            return await store.decisions(session, wanted, before, limit)

    def _rows(self, path: str, inference_id: str) -> list[dict[str, Any]]:
        rows: pa.Table = self._files.read(path, filters=pc.field("inference_id") == inference_id)
        return [_row(row) for row in rows.slice(0, _ROWS_AT_MOST).to_pylist()]


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the file with its maps as objects and its payload, if it was not read, as JSON."""
    features = dict(row.pop("features") or ()) | {k: v for k, v in row.pop("texts") or () if v is not None}
    text, number = row.pop("prediction_text"), row.pop("prediction")
    unread = row.pop("unread")
    return row | {
        "features": features, "prediction": number if text is None else text,
        "unread": orjson.loads(unread) if unread else None,
    }  # fmt: skip
