"""The monitor's own way from rows to an alarm, at its defaults and without the transport."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pyarrow as pa

from contracts import ModelSchema
from services.kit.profiles import build_profile
from services.monitor.domain.budget import of_data
from services.monitor.domain.course import Course
from services.monitor.domain.rhythm import learned
from services.monitor.domain.season import NONE, Season
from services.monitor.domain.trial import Setting
from services.monitor.domain.watch import Finding, Watch
from services.monitor.domain.windows import HOUR_S, Block
from services.monitor.usecases.versions import Watched

from .streams import Array

WINDOW_ROWS, TOLERANCE = 25, 0.1


@dataclass(frozen=True)
class Found:
    """An alarm or a note, and the number of rows that had been seen by then."""

    row: int
    finding: Finding


class Monitor:
    """One version under watch, a window of `WINDOW_ROWS` at a time."""

    def __init__(self, reference: pa.Table, schema: ModelSchema, budget_rows: int, season: Season = NONE) -> None:
        self._watched = Watched.of("model", schema, build_profile(reference, schema))
        assert self._watched.reference is not None and self._watched.binner is not None
        self._reference, self._binner = self._watched.reference, self._watched.binner
        self._course = Course(Watch.start(self._reference, season), of_data(budget_rows))

    def see(self, columns: dict[str, Array], first: int) -> Iterable[Found]:
        """What is found over some rows, the first of them with this number; a row is a second."""
        rows = len(next(iter(columns.values())))
        bins = self._binner.bin(columns, rows)
        for at in range(0, rows, WINDOW_ROWS):
            cut = bins[at : at + WINDOW_ROWS]
            block = Block(float(first + at), len(cut), self._binner.count(cut))
            self._course.see(block.start_s, [block])
            if finding := self._course.judge(self._reference, TOLERANCE):
                yield Found(first + at + len(cut), finding)

    def hour(self, columns: dict[str, Array], number: int) -> Block:
        """The counts of an hour's rows, at its middle."""
        rows = len(next(iter(columns.values())))
        return Block((number + 0.5) * HOUR_S, rows, self._binner.count(self._binner.bin(columns, rows)))

    def learn(self, hours: list[Block], budget_rows: int) -> bool:
        """Go on with a daily season if it explains these hours."""
        found = learned(self._reference, hours, Setting(budget_rows, TOLERANCE, 24 * HOUR_S))
        if found:
            self._course.watch = replace(found, last_s=self._course.watch.last_s)
        return found is not None

    def accept(self) -> None:
        """What is seen is the new normal: go on after an alarm."""
        self._course.watch = self._course.watch.accepted()
