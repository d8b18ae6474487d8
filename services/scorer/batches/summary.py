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

from .sheet import Columns, asked, columns_of, needed

_MOST_CLASSES = 50
_COMPARED = 100_000
"""Rows that are compared with the baseline, spread over the file: more make the intervals no narrower than matters."""
_STEP = 4_096


@dataclass
class _Numbers:
    """Moments that merge, without the loss of digits of a sum of squares.

    Chan, Golub and LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
    """

    rows: int = 0
    mean: float = 0.0
    spread: float = 0.0
    """The sum of squared distances from the mean."""
    least: float = np.inf
    most: float = -np.inf

    def add(self, values: pa.ChunkedArray) -> None:
        there = values.drop_null().to_numpy().astype(np.float64)
        there = there[np.isfinite(there)]
        if len(there):
            mean, before = float(there.mean()), self.rows
            self.rows += len(there)
            apart = mean - self.mean
            self.mean += apart * len(there) / self.rows
            self.spread += float(((there - mean) ** 2).sum()) + apart**2 * before * len(there) / self.rows
            self.least, self.most = min(self.least, float(there.min())), max(self.most, float(there.max()))

    def said(self) -> dict[str, Any] | None:
        if not self.rows:
            return None
        sd = sqrt(self.spread / self.rows)
        return {"mean": self.mean, "sd": sd, "minimum": self.least, "maximum": self.most}


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


class Comparison:
    """A file's features beside a baseline, by a part of its rows, which are seen in their order."""

    def __init__(self, version: int, profile: Profile, schema: ModelSchema, rows: int) -> None:
        """`rows`: of the whole file."""
        self._version, self._profile, self._schema = version, profile, schema
        self._binner = Binner(profile)
        self._counts = np.zeros((self._binner.tracks, self._binner.width), np.int64)
        self._every = max(1, rows // _COMPARED)
        self._seen = self._steps = self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """The next rows. Blocking. Raises Invalid where a column cannot be read."""
        for first in range(0, batch.num_rows, _STEP):
            if self._steps % self._every == 0:
                self._count(asked(batch.slice(first, _STEP)), self._seen + first)
            self._steps += 1
        self._seen += batch.num_rows

    def _count(self, batch: pa.RecordBatch, first: int) -> None:
        columns: Columns = columns_of(batch, needed(self._schema), first)
        self._counts += self._binner.count(self._binner.bin(columns, batch.num_rows))
        self._rows += batch.num_rows

    def said(self) -> dict[str, Any]:
        """For the job's summary."""
        names = {column.name for column in self._profile.columns if column.role == "feature"}
        found = [asdict(each) for each in moved(self._binner, self._counts) if each.name in names]
        return {
            "version": self._version, "rows": self._rows, "baseline_rows": self._profile.rows, "features": found,
        }  # fmt: skip
