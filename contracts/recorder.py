"""What the recorder says: what followed from a decision, joined to the decision, and which are forgotten."""

from datetime import datetime, timedelta
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field

from .base import Event, Name, Topic, Value, Version, absent


class OutcomeReported(Event):
    """An outsider reports the ground truth or the value of one decided row, possibly weeks late."""

    topic: ClassVar[Topic] = Topic(
        "outcome.reported", speaker="recorder", keep=timedelta(days=30), open=True, partitions=4
    )
    key_field: ClassVar[str] = "inference_id"

    inference_id: str
    row: int = 0
    label: float | str | None = None
    value: float | None = None


class Decided(Value):
    """What a version decided of one row."""

    version: Version
    variant: str
    prediction: float | str | None
    """None: it is not known."""
    score: float | None


class OutcomeObserved(Event):
    """An outcome met its inference: everything that performance needs in one record."""

    topic: ClassVar[Topic] = Topic("outcome.observed", speaker="recorder", keep=timedelta(days=30), partitions=4)
    key_field: ClassVar[str] = "inference_id"

    inference_id: str
    row: int
    label: float | str | None
    value: float | None
    endpoint: Name
    use_case: Name
    model: Name
    version: Version
    variant: str
    prediction: float | str | None
    """None: what was decided is not known, as the payload was not logged, does not fit the model's schema, or the model
    gave no finite number."""
    score: float | None
    entity: str | None
    segments: dict[str, float | str] = {}
    """Declared segments and protected attributes of the row."""
    shadow_of: str | None = Field(default=None, exclude_if=absent)
    """The inference whose truth this is, where the one here is a shadow's: nobody was told of it."""
    answered: Decided | None = Field(default=None, exclude_if=absent)
    """Of a shadow, what callers were told of the same row."""
    received_at: datetime
    reported_at: datetime | None = Field(default=None, exclude_if=absent)
    """When the recorder was told what it says; None in events of before this was said."""
    observed_at: datetime


class DecisionsErased(Event):
    """Decisions were erased, with what followed from them: who holds anything about them removes it."""

    topic: ClassVar[Topic] = Topic("decisions.erased", speaker="recorder", keep=timedelta(days=30))
    key_field: ClassVar[str] = "erasure_id"

    erasure_id: UUID
    inference_ids: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    """Some of an erasure's: there may be more of them in other events."""
