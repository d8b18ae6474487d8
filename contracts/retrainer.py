"""What the retrainer says: how a candidate did against the champion."""

from datetime import timedelta
from typing import ClassVar, Literal
from uuid import UUID

from .base import Digest, Event, Name, Topic, Version


class RetrainingCompleted(Event):
    """A retraining ended: with a candidate that won, one that lost, or a failure with its reason."""

    topic: ClassVar[Topic] = Topic("retraining.completed", speaker="retrainer", keep=timedelta(days=365))
    key_field: ClassVar[str] = "model"

    retraining_id: UUID
    model: Name
    champion_version: Version
    endpoint: Name
    use_case: Name
    outcome: Literal["candidate_won", "champion_kept", "failed"]
    reason: str
    package_digest: Digest | None = None
    """The candidate's package in the object store; the catalog registers it as the next version."""
    snapshot_digest: Digest | None = None
    """The recorded rows that it learned from."""
    trained_rows: int = 0
    held_out_rows: int = 0
    champion_metrics: dict[str, float] = {}
    candidate_metrics: dict[str, float] = {}
    requested_by: str
