"""What the scorer says: what each replica has loaded, and every inference that was made."""

from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import Field

from .base import Event, Name, Topic, Value, Version, absent
from .monitor import Window

Mode = Literal["rest", "stream", "batch", "imported"]


class ReplicaReported(Event):
    """What one scorer host really has loaded for an endpoint: it closes the deployer's loop."""

    topic: ClassVar[Topic] = Topic("replica.reported", speaker="scorer", compacted=True, partitions=1)

    endpoint: Name
    replica: str
    revision: int
    state: Literal["ready", "loading", "failed", "removed"]
    reason: str | None = None
    loaded: tuple[Version, ...] = ()
    slots: int
    """Processes of this host that answer requests; `ready` says that all of them serve the revision."""
    reported_at: datetime

    @property
    def key(self) -> str:
        return f"{self.endpoint}/{self.replica}"


class UsageReported(Event):
    """What a version behind an endpoint used of one scorer host since the host said it last.

    A report that begins when another one of the same endpoint, model, version and replica did replaces it. Versions
    that used nothing are left out.
    """

    topic: ClassVar[Topic] = Topic("usage.reported", speaker="scorer", keep=timedelta(days=30))
    key_field: ClassVar[str] = "endpoint"

    endpoint: Name
    use_case: Name
    model: Name
    version: Version
    replica: str
    since: datetime
    until: datetime
    inferences: int
    rows: int
    refused: int
    """Requests."""
    faults: int | None = Field(default=None, exclude_if=absent)
    """Of them those that were right and got no answer all the same: too many at once, a model that is away, a log
    without room (429, 5xx). None: of a scorer that did not tell them apart yet."""
    bytes_in: int
    """Of requests that were answered; of a batch, of its columns."""
    bytes_out: int
    busy_s: float
    """Seconds that the model worked, by the clock, summed over processes."""
    model_cpu_s: float
    """Processor time of the model, its sandbox and its loading included."""
    serving_cpu_s: float
    """Processor time of HTTP, checks, streams, batches and the log on its behalf."""
    memory_bytes: int
    """Resident at the end of the period, its sandboxes included."""


class PayloadReference(Value):
    """Where a payload too large for the log is kept: an object by digest, and which rows of it."""

    digest: str
    media_type: str
    first_row: int
    rows: int


class Answered(Value):
    """What callers were told of a request that a shadow got, too."""

    version: Version
    variant: str
    latency_ms: float
    response: dict[str, Any] | None = Field(default=None, exclude_if=absent)
    """As `InferenceLogged.response`; None where the payloads are not kept, or it is larger than 128 KiB."""


class InferenceLogged(Event):
    """One inference as it was answered, or as a shadow would have answered it. `ce_id` is the inference id; the scorer
    writes it as bytes."""

    topic: ClassVar[Topic] = Topic("inference.logged", speaker="scorer", keep=timedelta(days=7), partitions=4)
    key_field: ClassVar[str] = "inference_id"

    inference_id: str
    endpoint: Name
    unit: Name
    use_case: Name
    model: Name
    version: Version
    variant: str
    mode: Mode
    application: str
    entity: str | None
    request_id: str | None
    writer: str
    seq: int
    """Grows by one for each record of a writer: consumers keep the highest and skip repeats."""
    received_at: datetime
    latency_ms: float
    rows: int
    request: dict[str, Any]
    """The V2 request, its tensors as JSON whatever the wire was; or `{"reference": …}`."""
    response: dict[str, Any]
    sampled: bool = Field(default=True, exclude_if=bool)
    """False: its endpoint keeps the payloads of a share of its inferences, and this is none of them. Request and
    response are empty then."""
    shadow_of: str | None = Field(default=None, exclude_if=absent)
    """The inference that was answered, where this one is a shadow's: nobody was told of it."""
    answered: Answered | None = Field(default=None, exclude_if=absent)
    """Of a shadow, what callers were told: both can be compared where either is read."""
    failed: str | None = Field(default=None, exclude_if=absent)
    """Of a shadow, the kind of refusal that it gave instead of an answer. It is no inference then: `sampled` is false,
    `rows` are those that it was asked about."""
    instead_of: Name | None = Field(default=None, exclude_if=absent)
    """The variant that was to answer and failed, where this one answered in its place."""
    params: dict[str, Any] | None = Field(default=None, exclude_if=absent)
    """What the request set of the model's `params`; of the others their defaults held."""


class InferenceRequested(Event):
    """A producer asked for an inference. The value is a V2 infer request; one topic per endpoint."""

    topic: ClassVar[Topic] = Topic(
        "inference.requested", speaker="scorer", keep=timedelta(hours=24), open=True, per_endpoint=True
    )
    key_field: ClassVar[str] = "id"

    id: str | None = None
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] | None = None


class InferenceCompleted(Event):
    """The V2 response to a streamed request; `inference.failed` says `{error, status}` instead."""

    topic: ClassVar[Topic] = Topic("inference.completed", speaker="scorer", keep=timedelta(days=7), per_endpoint=True)
    key_field: ClassVar[str] = "id"

    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[dict[str, Any]]
    parameters: dict[str, Any] = {}


class InferenceImported(Event):
    """A foreign runtime made an inference; the importer validates it and says `inference.logged`."""

    topic: ClassVar[Topic] = Topic("inference.imported", speaker="scorer", keep=timedelta(days=7), open=True)
    key_field: ClassVar[str] = "inference_id"

    inference_id: str
    endpoint: Name
    model: Name
    version: Version
    application: str
    entity: str | None = None
    received_at: datetime
    latency_ms: float
    request: dict[str, Any]
    response: dict[str, Any]


class AttributionsMeasured(Event):
    """A sample of an endpoint's decisions was explained: what each column added, row by row; or why it cannot be."""

    topic: ClassVar[Topic] = Topic("attributions.measured", speaker="scorer", keep=timedelta(days=1))
    key_field: ClassVar[str] = "endpoint"

    endpoint: Name
    model: Name
    version: Version
    window: Window
    """As it was asked for."""
    columns: tuple[str, ...] = ()
    """Of the contributions: those of the model, at most 64, with the largest contributions over the reference rows."""
    method: Literal["trees", "linear", "exact", "sampled"] | None = None
    scale: Literal["probability", "log-odds", "value"] | None = None
    output: str | None = None
    """What is explained of each row: `probabilities[1]`, the same for all; of more than two classes the score of the
    row's likeliest, `probabilities[likeliest]`."""
    rows: tuple[tuple[float, ...], ...] = ()
    """Contributions by column; they add up to the value less its mean over the background, where no column is left
    out."""
    reference: tuple[tuple[float, ...], ...] | None = None
    """Those of the model's own reference rows, where they were asked for."""
    unexplained: int = 0
    """Rows of the sample that could not be explained."""
    busy_s: float = 0.0
    """Seconds that it took, by the clock."""
    cannot: str | None = None
    """Why nothing of this version can be explained."""
