"""What a recorded inference is, and how its rows and outcomes fit together. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from contracts import ModelSchema, OutcomeObserved
from services.kit.errors import Invalid

_FACTS = (
    "inference_id", "unit", "endpoint", "use_case", "model", "version", "variant", "mode", "application", "entity",
    "request_id", "received_at", "latency_ms", "rows",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Ground truth or value of one decided row."""

    inference_id: str
    row: int
    label: float | str | None
    value: float | None


@dataclass(frozen=True)
class Place:
    """Where the rows of a decision lie: a file, and the first of them in it."""

    path: str
    first_row: int


def facts_of(logged: Mapping[str, Any]) -> dict[str, Any]:
    """The small members of a record, typed. Raises Invalid naming the first that is missing or wrong."""
    missing = [name for name in _FACTS if name not in logged]
    if missing:
        raise Invalid(f"the record has no {missing[0]}", missing[0])
    facts = {name: logged[name] for name in _FACTS}
    try:
        at = datetime.fromisoformat(facts["received_at"])
        facts["received_at"] = at if at.tzinfo else at.replace(tzinfo=UTC)
        facts["version"], facts["rows"] = int(facts["version"]), int(facts["rows"])
        facts["latency_ms"] = float(facts["latency_ms"])
    except (TypeError, ValueError) as error:
        raise Invalid(f"the record is not as expected: {error}", "received_at") from None
    return facts


def observed(
    schema: ModelSchema, decision: Mapping[str, Any], row: Mapping[str, Any], outcome: Outcome, at: datetime
) -> OutcomeObserved:
    """The outcome with everything that performance and fairness need of its inference."""
    values = row["features"] or {}
    protected = {c.name: values[c.name] for c in schema.columns if c.protected and values.get(c.name) is not None}
    return OutcomeObserved(
        inference_id=outcome.inference_id, row=outcome.row, label=outcome.label, value=outcome.value,
        endpoint=decision["endpoint"], use_case=decision["use_case"], model=decision["model"],
        version=decision["version"], variant=decision["variant"], prediction=row["prediction"], score=row["score"],
        entity=decision["entity"], segments=protected, received_at=decision["received_at"], observed_at=at,
    )  # fmt: skip


def outcome_id(outcome: Outcome) -> UUID:
    """An outcome of a row is said once: its event's id follows from what it is about."""
    return uuid5(NAMESPACE_URL, f"fairlead:outcome:{outcome.inference_id}:{outcome.row}")
