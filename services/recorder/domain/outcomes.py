"""What became true of a decided row: which reports stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isfinite
from uuid import NAMESPACE_URL, uuid5

import orjson

from contracts import OutcomeReported
from services.kit.errors import Invalid

_ID_AT_MOST = 100
_TEXT_AT_MOST = 200

PAUSES = tuple(timedelta(seconds=s) for s in (2, 10, 60, 300, 1_800, 7_200, 28_800, 86_400))
"""Between one look for a decision that is not recorded and the next; the last again and again.

A decision that is recorded wakes what waits for it. The pauses are for a report that came at the very moment.
"""


@dataclass(frozen=True)
class Report:
    """One outcome as somebody reported it, and in which units that somebody is at home."""

    inference_id: str
    row: int
    label: float | str | None
    value: float | None
    reported_by: str
    units: frozenset[str] | None
    partition: int | None = None
    offset: int | None = None

    @property
    def event_id(self) -> str:
        """The same for a repeat, another one for a correction."""
        said = orjson.dumps([self.inference_id, self.row, self.label, self.value]).decode()
        return str(uuid5(NAMESPACE_URL, f"fairlead:outcome:{said}"))

    def says_as(self, other: "Report") -> bool:
        """Whether both say the same of a row, whoever says it."""
        return (self.label, self.value) == (other.label, other.value)

    def after(self, before: "Report") -> "Report":
        """With the part that this one leaves out as it was said before, by somebody of the same units."""
        if self.units != before.units:
            return self
        label = before.label if self.label is None else self.label
        return replace(self, label=label, value=before.value if self.value is None else self.value)

    def may_concern(self, unit: str) -> bool:
        """Whether the one who reported it is at home where the inference was made."""
        return self.units is None or "*" in self.units or unit in self.units


def units_of(said: str | None, topic_units: frozenset[str]) -> frozenset[str]:
    """The units for which an outcome over the topic stands: those that may write it, or the one that it names.

    Kafka tells a consumer no principal, so that the right to write the topic is all that is proven. Raises Invalid
    where it names a unit that has no such right.
    """
    if said is None:
        return topic_units
    if said not in topic_units and "*" not in topic_units:
        raise Invalid(
            f"ce_unit: {said[:80]!r} reports no outcomes over the topic; POST /v1/outcomes takes them", "ce_unit"
        )
    return frozenset({said})


def checked(event: OutcomeReported) -> OutcomeReported:
    """The event, if it says something that can be kept. Raises Invalid naming the field."""
    if not event.inference_id or len(event.inference_id) > _ID_AT_MOST:
        raise Invalid("inference_id: it is empty or longer than 100 characters", "inference_id")
    if not 0 <= event.row < 2**31:
        raise Invalid("row: rows count from 0", "row")
    if "\0" in event.inference_id or (isinstance(event.label, str) and "\0" in event.label):
        name = "inference_id" if "\0" in event.inference_id else "label"
        raise Invalid(f"{name}: it holds a NUL character", name)
    if event.label is None and event.value is None:
        raise Invalid("label: an outcome has a label, a value or both", "label")
    if isinstance(event.label, str) and len(event.label) > _TEXT_AT_MOST:
        raise Invalid("label: it is longer than 200 characters", "label")
    for name in ("label", "value"):
        number = getattr(event, name)
        if isinstance(number, float) and not isfinite(number):
            raise Invalid(f"{name}: it is not a finite number", name)
    return event


def within(rows: Mapping[str, int], events: Sequence[OutcomeReported]) -> None:
    """Raises Invalid naming the first outcome whose row its inference, by its number of rows, does not have."""
    for place, event in enumerate(events):
        if (count := rows.get(event.inference_id)) is not None and event.row >= count:
            raise Invalid(
                f"outcomes.{place}.row: the inference has {count} rows, counted from 0", f"outcomes.{place}.row"
            )


@dataclass(frozen=True)
class Known:
    """The decision that a waiting outcome refers to."""

    report: Report
    unit: str
    endpoint: str
    rows: int
    file: int
    reported_at: datetime
    shadow_of: str | None = None
    """The inference that was answered, where the decision is a shadow's, and the file that has it."""
    answered_file: int | None = None

    @property
    def place(self) -> tuple[str, int]:
        """The row that it is about: inference and number."""
        return self.report.inference_id, self.report.row

    @property
    def answered(self) -> tuple[str, int] | None:
        """The row that callers were told of, where this one is a shadow's."""
        return None if self.shadow_of is None else (self.shadow_of, self.report.row)

    @property
    def files(self) -> dict[int, set[tuple[str, int]]]:
        """Which rows are to be found in which files."""
        wanted = {self.file: {self.place}}
        if self.answered is not None and self.answered_file is not None:
            wanted.setdefault(self.answered_file, set()).add(self.answered)
        return wanted

    def refusal(self) -> str | None:
        """Why this outcome does not stand, if it does not."""
        if not self.report.may_concern(self.unit):
            return "no such inference in the business units of the one who reported it"
        if self.report.row >= self.rows:
            return f"row: the inference has {self.rows} rows, counted from 0"
        return None
