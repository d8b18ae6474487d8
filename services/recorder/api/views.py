"""What the recorder answers, as JSON."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from ..store import DecisionRow, Erasure, Followed, OutcomeRow
from ..usecases.reading import Decision
from ..usecases.remaining import Remainder


class DecisionView(BaseModel):
    """What the index knows of a decision."""

    inference_id: str
    endpoint: str
    unit: str
    use_case: str
    model: str
    version: int
    mode: str
    application: str
    entity: str | None
    rows: int
    received_at: datetime
    shadow_of: str | None
    """The decision that was told, where this is what a shadow would have decided."""
    variant: str | None
    """As what the version served: champion, canary, …; null in a list for what was recorded before lists told it."""
    instead_of: str | None
    """The variant that was to answer and failed, where this one answered in its place."""

    @classmethod
    def of(cls, row: DecisionRow) -> "DecisionView":
        return cls.model_validate(row, from_attributes=True)


class RowView(BaseModel):
    """One decided row: what the model saw and said."""

    row: int
    features: dict[str, float | str | None]
    prediction: float | str | None
    score: float | None
    unread: Any = None
    """In row 0: request and response as they were logged, where they do not fit the model's schema."""


class OutcomeView(BaseModel):
    """What followed."""

    row: int
    label: float | str | None
    value: float | None
    reported_by: str
    reported_at: datetime
    observed_at: datetime | None

    @classmethod
    def of(cls, outcome: OutcomeRow) -> "OutcomeView":
        return cls.model_validate(outcome, from_attributes=True)


class UnmetView(BaseModel):
    """What somebody reported of decisions that are not recorded: of ids that nobody decided under, or of others'."""

    state: Literal["waiting", "expired"]
    """`expired`: the decision did not come in `FAIRLEAD_PATIENCE_DAYS`; kept as long again, to be seen."""
    reported_by: str
    units: list[str] | None
    reports: int
    oldest: datetime
    newest: datetime
    examples: list[str]
    """Ids of at most three."""


class ListedDecision(DecisionView):
    """A decision in a list, with what followed from it."""

    observed: int
    """Of how many rows an outcome is known."""
    value: float | None
    """What the known outcomes were worth together."""
    outcomes: list[OutcomeView]
    """Those of its first rows, at most 10."""

    @classmethod
    def listed(cls, row: DecisionRow, followed: Followed) -> "ListedDecision":
        return cls(
            **DecisionView.of(row).model_dump(), observed=followed.observed, value=followed.value,
            outcomes=[OutcomeView.of(outcome) for outcome in followed.outcomes],
        )  # fmt: skip


class WholeDecision(DecisionView):
    """A decision with what is known of it: of at most 1,000 rows, and what followed from those."""

    request_id: str | None
    correlation_id: str | None
    latency_ms: float
    sampled: bool
    """False: its endpoint logs the payloads of a share of its inferences, and this is none of them."""
    params: dict[str, Any] | None
    """What the request set of the model's `params`; of the others their defaults held."""
    decided: list[RowView]
    observed: int
    """Of how many of all its rows an outcome is known."""
    outcomes: list[OutcomeView]
    """Those of the rows in `decided`."""

    @classmethod
    def whole(cls, found: Decision) -> "WholeDecision":
        """What all rows have in common is the first row's."""
        names = ("variant", "instead_of", "request_id", "correlation_id", "latency_ms", "params")
        common = {name: found.rows[0][name] for name in names}
        return cls(
            **DecisionView.of(found.index).model_dump() | common, sampled=found.sampled,
            decided=[RowView.model_validate(row) for row in found.rows], observed=found.observed,
            outcomes=[OutcomeView.of(outcome) for outcome in found.outcomes],
        )  # fmt: skip


class SnapshotView(BaseModel):
    """A Parquet object in the object store."""

    digest: str
    rows: int
    labelled: int


class KnownSnapshot(SnapshotView):
    """A snapshot that was made, and what became of it."""

    endpoint: str
    model: str
    made_at: datetime
    replaced_by: str | None
    """The snapshot without the rows of who was erased; empty where no row was left."""
    removed_at: datetime | None
    """Since when its object is gone."""


class RemainderView(BaseModel):
    """Something about the erased decisions that lies elsewhere."""

    model_config = ConfigDict(from_attributes=True)

    what: str
    where: str
    by: datetime | None
    """When it is gone at the latest; null: no time ends it."""
    how: str


class ErasureView(BaseModel):
    """How far an erasure came. Whom it is about is told by a keyed hash alone."""

    id: UUID
    state: str
    """`running` or `done`."""
    problem: str | None
    """What keeps it from being done: it goes on by itself once that is mended."""
    entity_hash: str
    unit: str
    use_case: str | None
    reason: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    decisions: int
    outcomes: int
    files: int
    """Files that were rewritten or removed."""
    snapshots: int
    left: int
    """Decisions that are still to be erased, or of which an outcome still lies in a file."""
    late: int
    """Decisions of before the erasure that came after it and were not recorded."""
    elsewhere: list[RemainderView]
    """What the recorder does not hold: removed by others on hearing of it, or gone when its time is over."""

    @classmethod
    def of(cls, erasure: Erasure, left: int, elsewhere: Sequence[Remainder]) -> "ErasureView":
        names = set(cls.model_fields) - {"left", "elsewhere"}
        rest = [RemainderView.model_validate(each) for each in elsewhere]
        return cls(**{name: getattr(erasure, name) for name in names}, left=left, elsewhere=rest)
