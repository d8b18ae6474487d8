"""What a batch said, in a few lines: its decisions, and how far its rows are from the version's baseline."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts import ModelSchema, Profile
from services.kit.effects import moved
from services.kit.profiles import Binner

from .sheet import Columns, Sheet, asked, columns_of, needed

_MOST_CLASSES = 50
_COMPARED = 100_000
"""Rows that are compared with the baseline, spread over the file: more make the intervals no narrower than matters."""
_STEP = 4_096


@dataclass
class _Numbers:
    """Moments that merge."""

    rows: int = 0
    total: float = 0.0
    squares: float = 0.0
    least: float = np.inf
    most: float = -np.inf

    def add(self, values: pa.ChunkedArray) -> None:
        there = values.drop_null().to_numpy().astype(np.float64)
        there = there[np.isfinite(there)]
        if len(there):
            self.rows += len(there)
            self.total += float(there.sum())
            self.squares += float((there**2).sum())
            self.least, self.most = min(self.least, float(there.min())), max(self.most, float(there.max()))

    def said(self) -> dict[str, Any] | None:
        if not self.rows:
            return None
        mean = self.total / self.rows
        sd = sqrt(max(self.squares / self.rows - mean**2, 0.0))
        return {"mean": mean, "sd": sd, "minimum": self.least, "maximum": self.most}


@dataclass
class Decisions:
    """What the parts of a result say together."""

    classes: Counter[str] = field(default_factory=Counter[str])
    many: bool = False
    """Too many distinct predictions to count each."""
    numbers: _Numbers = field(default_factory=_Numbers)
    scores: _Numbers = field(default_factory=_Numbers)
    versions: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])

    def add(self, part: pa.Table) -> None:
        """A chunk's part of the result."""
        prediction = part["prediction"]
        is_number = pa.types.is_integer(prediction.type) or pa.types.is_floating(prediction.type)
        if is_number:
            self.numbers.add(prediction)
        if not self.many and not pa.types.is_nested(prediction.type):
            self.classes.update({str(value): count for value, count in _counted(prediction.drop_null())})
            self.many = len(self.classes) > _MOST_CLASSES
        self.scores.add(part["score"])
        refused = part["error"].null_count < part.num_rows
        good = part.select(["model_version"])
        if refused:
            good = part.filter(pc.is_valid(part["inference_id"]))  # pyright: ignore
        self.versions.update({str(value): count for value, count in _counted(good["model_version"])})
        if refused and len(self.refused) <= _MOST_CLASSES:
            self.refused.update(dict(_counted(part["error"].drop_null())))

    def said(self) -> dict[str, Any]:
        """For the job's summary."""
        return {
            "predictions": None if self.many or not self.classes else dict(self.classes.most_common()),
            "prediction": self.numbers.said() if self.many else None, "score": self.scores.said(),
            "versions": dict(self.versions), "errors": dict(self.refused.most_common(5)),
        }  # fmt: skip


def _counted(values: pa.ChunkedArray) -> Iterator[tuple[Any, int]]:
    return ((each["values"], each["counts"]) for each in values.value_counts().to_pylist())


def drift(profile: Profile, schema: ModelSchema, sheet: Sheet) -> dict[str, Any]:
    """The file's features beside the profile's, by a part of its rows. Blocking. Raises Invalid."""
    binner = Binner(profile)
    counts, compared = np.zeros((binner.tracks, binner.width), np.int64), 0
    every = max(1, sheet.rows // _COMPARED)
    for number, batch in sheet.batches(schema, _STEP, 0):
        if number % every == 0:
            batch = asked(batch)
            columns: Columns = columns_of(batch, needed(schema), number * _STEP)
            counts += binner.count(binner.bin(columns, batch.num_rows))
            compared += batch.num_rows
    names = {column.name for column in profile.columns if column.role == "feature"}
    found = [asdict(each) for each in moved(binner, counts) if each.name in names]
    return {"rows": compared, "baseline_rows": profile.rows, "features": found}
