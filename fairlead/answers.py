"""What the platform answers: typed where it is settled, and nothing that it says is lost (`extra="allow"`)."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from contracts import FeatureEvidence, Gate, ModelSchema, Scan, Training


class Answer(BaseModel):
    """A part of an answer. Fields that this client does not know are kept as attributes."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


T = TypeVar("T")


class Page(Answer, Generic[T]):
    """A part of a list, and the cursor of the next part (None at the end)."""

    items: list[T]
    next: str | None = None

    def __iter__(self) -> Iterator[T]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class UseCase(Answer):
    """What the business wants decided, and who answers for it."""

    use_case: str
    title: str
    unit: str
    owner: str
    risk_tier: int


class Model(Answer):
    """A model, as a list shows it."""

    model: str
    unit: str
    state: str
    latest_version: int
    format: str | None = None
    description: str = ""
    tags: list[str] = []


class ModelVersion(Answer):
    """One version: immutable bytes, what they take and give, how they were made."""

    model: str
    version: int
    digest: str
    state: str
    unit: str | None = None
    format: str | None = None
    executes_code: bool | None = None
    model_schema: ModelSchema | None = None
    scan: Scan | None = None
    training: Training | None = None
    registered_by: str | None = None
    registered_at: datetime | None = None
    tags: list[str] = []


class Deployment(Answer):
    """A request to serve a version behind an endpoint, and how far it came."""

    id: str
    endpoint: str
    state: str
    model: str
    version: int
    use_case: str | None = None
    reason: str | None = None
    requested_by: str | None = None
    strategy: str = "direct"
    variant: str = "champion"
    weight: float | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state in SETTLED


SETTLED = frozenset({"serving", "replaced", "rolled_back", "rejected", "failed", "revoked", "removed"})
"""Deployment states in which nothing more happens by itself."""


class EndpointVariant(Answer):
    """One version in an endpoint: the champion, or what stands beside it."""

    name: str
    role: str
    model: str
    version: int
    weight: float


class Endpoint(Answer):
    """An endpoint and what it shall serve."""

    endpoint: str
    state: str
    use_case: str | None = None
    unit: str | None = None
    model: str | None = None
    version: int | None = None
    revision: int | None = None
    streaming: bool | None = None
    variants: list[EndpointVariant] = []
    """The champion first."""


class Approval(Answer):
    """A question to a person: may these bytes serve this endpoint?"""

    id: str
    state: str
    endpoint: str
    model: str
    version: int
    use_case: str | None = None
    requested_by: str | None = None
    decided_by: str | None = None
    reason: str | None = None
    gates: list[Gate] = []


class Scores(Answer):
    """The answer to a scoring request, by Open Inference Protocol V2."""

    inference_id: str
    """The id of the decision: look it up with `decision`, report its outcome with `outcomes`."""
    endpoint: str
    version: int
    variant: str | None = None
    """What the version that answered is called in the endpoint: `champion`, say, or `canary`."""
    outputs: dict[str, list[Any]]
    """Output tensors by name, row by row."""

    def __len__(self) -> int:
        return max((len(values) for values in self.outputs.values()), default=0)

    @property
    def predictions(self) -> list[Any]:
        """The first output: what was decided, row by row."""
        return next(iter(self.outputs.values()), [])


class Batch(Answer):
    """A file that is scored, or was."""

    id: str
    endpoint: str
    state: str
    version: int | None = None
    """That was asked for; None: the endpoint's champion."""
    rows_total: int = 0
    rows_done: int = 0
    rows_failed: int = 0
    reason: str | None = None
    host: str | None = None
    """The scorer host that alone has its input; None: any can do it."""
    result: str | None = None
    """Where to take the result, once there is one."""
    summary: dict[str, Any] | None = None
    """Of a batch that is done: its decisions, and how far its features are from the baseline."""

    @property
    def settled(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state not in ("queued", "running")


class ScheduleRun(Answer):
    """A time (UTC) or a file (path@version), and the batch that it became, or why it became none."""

    key: str
    batch: str | None = None
    reason: str | None = None
    at: datetime


class Schedule(Answer):
    """Batches at times, or for each file that arrives."""

    id: str
    order: dict[str, Any]
    state: str
    next_at: datetime | None = None
    missed: int = 0
    reason: str | None = None
    """Why it cannot be followed now."""
    runs: list[ScheduleRun] | None = None
    """The latest ones, where one schedule is asked for."""


class Retraining(Answer):
    """A retraining, and how its candidate did against the champion."""

    id: str
    state: str
    model: str
    reason: str | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state not in ("requested", "running")


class Replay(Answer):
    """A version held against what was decided behind an endpoint, on the recorded rows."""

    id: str
    state: str
    endpoint: str
    model: str
    version: int
    reason: str | None = None
    result: dict[str, Any] = {}
    """Rows, agreement, and on the rows whose truth is known the metrics of both."""

    @property
    def settled(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state not in ("requested", "running")


class Drift(Answer):
    """How far an endpoint's inferences are from the baseline."""

    endpoint: str
    drifting: bool | None = None
    statistic: float | None = None
    threshold: float | None = None
    since: datetime | None = None
    features: list[FeatureEvidence] = []


class GroupLag(Answer):
    """How many records a consumer group has still to read."""

    group: str
    lag: int


class TopicState(Answer):
    """A topic as the broker sees it."""

    topic: str
    speaker: str | None = None
    records: int
    rate: float
    """Records a second over the last minute."""
    bytes: int | None = None
    partitions: int
    dead_letters: int | None = None
    groups: list[GroupLag] = []


class DeadLetter(Answer):
    """A record that a service could not handle, and why."""

    topic: str
    partition: int
    offset: int
    source: str
    service: str
    error: str
    reason: str
    at: datetime
    key: str | None = None


class Decision(Answer):
    """A recorded inference: what was asked, what was decided, by which version, what followed."""

    inference_id: str
    endpoint: str
    model: str
    version: int


class Erasure(Answer):
    """How far an entity is forgotten; who it is is told by a keyed hash alone."""

    id: str
    state: str
    problem: str | None = None
    decisions: int = 0
    left: int = 0
    elsewhere: list[dict[str, Any]] = []
    """What lies elsewhere: `what`, `where`, `by` when it is gone at the latest, and `how`."""

    @property
    def settled(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state == "done"


class Explanation(Answer):
    """Why a row was decided as it was: `base` and all contributions make `value`, on the scale that is named."""

    id: str
    inference_id: str
    row: int
    endpoint: str
    model: str
    version: int
    decided: float | str
    method: str
    """`trees`, `linear` and `exact` are exact; `sampled` comes with standard errors."""
    scale: str
    output: str
    explained: float | str | None = None
    """The decision that `output` is the score of: the one that was made, or that was named; None of a number."""
    base: float
    value: float
    contributions: list[dict[str, Any]]
    counterfactual: list[dict[str, Any]] | None = None
    """The fewest columns that, with other values, would have turned the decision."""
    counterfactual_decides: float | str | None = None
    no_counterfactual: str | None = None


class ServiceStatus(Answer):
    """Whether one service is there and ready."""

    service: str
    url: str
    ready: bool
    problems: dict[str, str] = {}


class Platform(Answer):
    """Who is where."""

    services: list[ServiceStatus]
    ready: bool


class BadRecord(Answer):
    """The first record that is not as it was sealed."""

    position: int
    reason: str


class Verification(Answer):
    """What the verification of the audit ledger found."""

    ok: bool
    records: int
    checkpoints: int
    first_bad: BadRecord | None = None
