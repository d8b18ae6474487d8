"""The Parquet files of outcomes: one row for each revision of what became true of a decided row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from contracts import OutcomeObserved

from .outcomes import Report

OUTCOMES = pa.schema([
    pa.field("inference_id", pa.string(), nullable=False),
    pa.field("row", pa.int32(), nullable=False),
    pa.field("revision", pa.int32(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("version", pa.int32(), nullable=False),
    pa.field("variant", pa.string(), nullable=False),
    pa.field("unit", pa.string(), nullable=False),
    pa.field("use_case", pa.string(), nullable=False),
    pa.field("entity", pa.string()),
    pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("reported_at", pa.timestamp("us", tz="UTC")),
    pa.field("observed_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("label", pa.float64()),
    pa.field("label_text", pa.string()),
    pa.field("value", pa.float64()),
    pa.field("shadow_of", pa.string()),
])  # fmt: skip
"""Of a row of a decision the greatest `revision` stands, counted from 1: each says all that was known then. What the
row has in common with its decision is as the decision's files have it. New columns are put at the end, and may be null.
The endpoint is in the folder's name, and the hour there is that of `observed_at`."""

Place = tuple[str, int]
"""An inference's id and the number of a row of it."""


@dataclass(frozen=True)
class Newest:
    """What was written last of a row."""

    revision: int
    said: str
    """Its event's id, which follows from what it says."""
    observed_at: datetime


@dataclass(frozen=True)
class Observation:
    """One row of a file: what was said, by which record of the topic, as the how manieth of its decided row."""

    event: OutcomeObserved
    unit: str
    offset: int
    revision: int

    @property
    def newest(self) -> Newest:
        return Newest(self.revision, said_by(self.event), self.event.observed_at)


def place_of(event: OutcomeObserved) -> Place:
    """The row that an outcome is about."""
    return event.inference_id, event.row


def said_by(event: OutcomeObserved) -> str:
    """The same for a repeat, another one for a correction."""
    return Report(event.inference_id, event.row, event.label, event.value, "", None).event_id


def revisions(
    said: Iterable[tuple[int, OutcomeObserved]], units: Mapping[str, str], newest: Mapping[Place, Newest]
) -> list[Observation]:
    """What is new of outcomes by their offsets, in their order.

    Left out is what says the same as what was written last, what was overtaken by that, and what is about a decision of
    no unit in `units`: one that is not recorded any more.
    """
    known, new = dict(newest), list[Observation]()
    for offset, event in said:
        place, unit = place_of(event), units.get(event.inference_id)
        before = known.get(place)
        if unit is None or (before and (before.said == said_by(event) or event.observed_at < before.observed_at)):
            continue
        new.append(Observation(event, unit, offset, before.revision + 1 if before else 1))
        known[place] = new[-1].newest
    return new


def rows_of(observations: Sequence[Observation]) -> pa.Table:
    """Rows of a file, in order."""
    return pa.Table.from_pylist([_row(each) for each in observations], schema=OUTCOMES)


def _row(observation: Observation) -> dict[str, object]:
    event = observation.event
    text = isinstance(event.label, str)
    of_event: dict[str, object] = {
        name: getattr(event, name) for name in OUTCOMES.names if name in OutcomeObserved.model_fields
    }
    return of_event | {
        "revision": observation.revision, "unit": observation.unit, "label": None if text else event.label,
        "label_text": event.label if text else None,
    }  # fmt: skip
