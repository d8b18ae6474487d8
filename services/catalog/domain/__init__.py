"""What the catalog decides: manifests, use cases, versions and their states. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from contracts import (
    Column,
    Datatype,
    Digest,
    Format,
    GivenSettings,
    ModelRegistered,
    ModelSchema,
    Name,
    ParamType,
    RetrainingCompleted,
    Scan,
    ServiceLevel,
    Training,
    UseCaseRegistered,
    Value,
    Version,
)
from services.kit.errors import Conflict, Invalid

from .external import ManifestExternal
from .strict import Identifier, Strict

Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
LongText = Annotated[str, StringConstraints(max_length=4000)]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,1000}$")]
Tags = Annotated[tuple[Name, ...], Field(max_length=20)]
State = Literal["registered", "quarantined", "retired"]

MANIFEST = "fairlead.yaml"
MODEL_FILES: dict[Format, str] = {
    "onnx": "model.onnx", "sklearn": "model.skops", "xgboost": "model.ubj", "lightgbm": "model.txt",
    "rules": "rules.yaml",
}  # fmt: skip
"""What a bare model file is called in its package; its first bytes say its format."""
EXECUTES_CODE: dict[Format, bool] = {
    "onnx": False, "sklearn": True, "xgboost": False, "lightgbm": False, "rules": False,
    "python": True, "mlflow": True, "river": True, "process": True, "external": False,
}  # fmt: skip
CODE_FORMATS: frozenset[Format] = frozenset({"python", "mlflow", "river"})
"""Models that are whole packages of code, which brings locked requirements."""
DECLARED_FORMATS: frozenset[Format] = frozenset({"process", "external"})
"""Models of which `fairlead.yaml` says all: there is no model file beside it."""
REQUIREMENTS = "requirements.txt"
SEGMENTS_AT_MOST = 8
"""Each pair of segments is counted as well: eight are 28 pairs."""
MLMODEL = "MLmodel"


class ManifestColumn(Column):
    """A column as `fairlead.yaml` says it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Identifier

    @model_validator(mode="after")
    def _has_a_range(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"column {self.name}: minimum is above maximum")
        if self.kind == "numeric" and self.categories is not None:
            raise ValueError(f"column {self.name}: a numeric column has no categories")
        if self.categories and any(isinstance(each, str) and not 0 < len(each) <= 200 for each in self.categories):
            raise ValueError(f"column {self.name}: a category is a text of 1 to 200 letters")
        return self


class ManifestTensor(Strict):
    """A tensor as `fairlead.yaml` says it; -1 is the row dimension, which comes first."""

    name: Identifier
    datatype: Datatype
    shape: Annotated[tuple[Annotated[int, Field(ge=-1, lt=2**31, strict=True)], ...], Field(min_length=1, max_length=8)]

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        if self.shape[0] != -1:
            raise ValueError(f"tensor {self.name}: the first dimension of its shape is the rows, -1")
        return self


Tensors = Annotated[tuple[ManifestTensor, ...], Field(max_length=10_000)]


class ManifestParam(Strict):
    """What a model lets requests set, as it says it; a default is JSON."""

    name: Identifier
    type: ParamType
    default: Any
    shape: tuple[Literal[-1]] | None = None


class Manifest(Strict):
    """`fairlead.yaml`: what a package says about itself."""

    name: Name
    format: Format
    model: FileName
    recipe: Literal["recipe.py"] | None = None
    training: FileName | None = None
    label: Identifier | None = None
    prediction: Identifier | None = None
    score: Identifier | None = None
    requirements: FileName | None = None
    """The file that says on which libraries the model runs; those of the platform where there is none."""
    command: Annotated[tuple[Argument, ...], Field(max_length=100)] = ()
    """Of a process: a runtime that the operator allows, or a file of the package (`./model`), and its arguments."""
    external: ManifestExternal | None = None
    inputs: Tensors = ()
    outputs: Tensors = ()
    columns: Annotated[tuple[ManifestColumn, ...], Field(max_length=10_000)] = ()
    segments: Annotated[tuple[Identifier, ...], Field(max_length=SEGMENTS_AT_MOST)] = ()
    """Columns by whose groups performance is told, too; they may be inferred ones."""
    metrics: Annotated[dict[Identifier, float], Field(max_length=100)] = {}
    monitor: GivenSettings | None = None
    """How an endpoint is watched of which a version of this package is the champion."""
    tags: Tags = ()
    description: LongText = ""

    @model_validator(mode="before")
    @classmethod
    def _is_its_own_model(cls, given: dict[str, Any]) -> dict[str, Any]:
        return given | {"model": MANIFEST} if given.get("format") in DECLARED_FORMATS else given

    @model_validator(mode="after")
    def _says_how_it_is_asked(self) -> Self:
        for member, format in (("command", "process"), ("external", "external")):
            if bool(getattr(self, member)) != (self.format == format):
                raise ValueError(f"{member} is what a model of format {format} has, and no other")
        if self.format in DECLARED_FORMATS:
            if not self.outputs or not (self.inputs or self.columns):
                raise ValueError(f"a model of format {self.format} declares inputs (or columns) and outputs")
            if self.recipe or self.requirements:
                raise ValueError(f"a model of format {self.format} has no recipe and no requirements")
        if self.external:
            self.external.check([each.name for each in self.inputs] or ["X"], [each.name for each in self.outputs])
        return self

    @field_validator("monitor")
    @classmethod
    def _can_be_watched_so(cls, monitor: GivenSettings | None) -> GivenSettings | None:
        if monitor:
            monitor.settings()
        return monitor

    @model_validator(mode="after")
    def _is_one_table(self) -> Self:
        names = [column.name for column in self.columns]
        if repeated := {name for name in names if names.count(name) > 1} if len(names) < 1000 else ():
            raise ValueError(f"column {sorted(repeated)[0]} is declared twice")
        if len(set(names)) != len(names):
            raise ValueError("a column is declared twice")
        for said in (self.inputs, self.outputs):
            if len({tensor.name for tensor in said}) != len(said):
                raise ValueError("a tensor is declared twice")
        if clash := {self.label, self.prediction, self.score} & set(names):
            raise ValueError(f"{sorted(map(str, clash))[0]} is both a column and a label, prediction or score")
        if self.training and self.training == self.model:
            raise ValueError("training and model name the same file")
        return self


class Acting(Strict):
    """For which business unit something is registered: one, whatever units a token names."""

    unit: Name


class Sla(Strict):
    """A service level as people write it; the event of a registration takes any numbers."""

    latency_p99_ms: Annotated[float, Field(gt=0, le=3_600_000)] = ServiceLevel().latency_p99_ms
    availability: Annotated[float, Field(gt=0, le=1)] = ServiceLevel().availability


class UseCase(Strict):
    """What the business wants decided, and who answers for it."""

    use_case: Name
    unit: Name
    title: Text
    owner: Text
    risk_tier: Annotated[int, Field(ge=1, le=4, strict=True)]
    purpose: LongText = ""
    sla: Sla = Sla()
    kpi_targets: Annotated[dict[Identifier, float], Field(max_length=100)] = {}
    protected: Annotated[tuple[Identifier, ...], Field(max_length=100)] = ()
    permitted_data: Annotated[tuple[Identifier, ...], Field(max_length=1000)] = ()

    def again(self, other: "UseCase") -> "UseCase":
        """Registering the same once more changes nothing. Raises Conflict for another content."""
        if self != other:
            raise Conflict(f"use case {self.use_case} exists with another content")
        return self

    def fact(self) -> UseCaseRegistered:
        """The event of its registration."""
        return UseCaseRegistered.model_validate(self.model_dump())


class Member(Value):
    """One file of a package: its name within, its bytes, their sha256."""

    name: str
    size: int
    digest: Digest


class Inspection(Value):
    """What the sandbox saw in a package."""

    model_schema: ModelSchema
    scan: Scan
    training_rows: int | None
    environment: dict[str, Any]
    baseline: dict[str, Any] | None


class Candidate(Value):
    """A package that was read, inspected and stored; it has no number yet."""

    manifest: Manifest
    digest: Digest
    members: tuple[Member, ...]
    model_schema: ModelSchema
    scan: Scan
    training: Training
    environment: dict[str, Any]
    baseline_digest: Digest | None


@dataclass(frozen=True)
class ModelVersion:
    """A numbered, immutable version of a model; only its state moves, and only forward."""

    model: Name
    version: Version
    unit: Name
    candidate: Candidate
    state: State
    registered_by: str
    registered_at: datetime
    retired_by: str | None = None
    retired_reason: str | None = None

    @classmethod
    def of(cls, candidate: Candidate, version: int, unit: str, by: str, at: datetime) -> "ModelVersion":
        """Anything but a clean scan is registered, visible and not deployable."""
        state: State = "registered" if candidate.scan.verdict == "clean" else "quarantined"
        return cls(candidate.manifest.name, version, unit, candidate, state, by, at)

    def retire(self, by: str, reason: str) -> "ModelVersion":
        """Out of service for good. Raises Conflict for one that is."""
        if self.state == "retired":
            raise Conflict(f"version {self.version} of {self.model} was retired before by {self.retired_by}")
        return replace(self, state="retired", retired_by=by, retired_reason=reason)

    def words(self) -> str:
        """What it is found by beside its name, at most 100,000 characters."""
        made = self.candidate
        columns = [column.name for column in made.model_schema.columns]
        said = [made.manifest.description, made.manifest.label or "", made.manifest.format]
        return " ".join([*said, *made.manifest.tags, *columns])[:100_000]

    def fact(self) -> ModelRegistered:
        """The event of its registration."""
        made = self.candidate
        return ModelRegistered(
            model=self.model, version=self.version, unit=self.unit, digest=made.digest, format=made.manifest.format,
            executes_code=EXECUTES_CODE[made.manifest.format], model_schema=made.model_schema,
            baseline_digest=made.baseline_digest, scan=made.scan, training=made.training,
            retrainable=made.manifest.recipe is not None, registered_by=self.registered_by, tags=made.manifest.tags,
            monitor=made.manifest.monitor.settings() if made.manifest.monitor else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Listed:
    """A model as a list shows it: its newest version in short, and whether any of its versions serves."""

    model: str
    version: int
    unit: str
    state: State
    format: str
    description: str
    tags: tuple[str, ...]
    registered_at: datetime
    serves: bool

    @classmethod
    def of(cls, newest: ModelVersion, *, serves: bool) -> "Listed":
        """The same of a version at hand."""
        said = newest.candidate.manifest
        return cls(
            newest.model, newest.version, newest.unit, newest.state, said.format, said.description, said.tags,
            newest.registered_at, serves,
        )  # fmt: skip


@dataclass(frozen=True)
class Serving:
    """An endpoint that a version serves, as the deployer said."""

    endpoint: str
    use_case: str
    version: int
    revision: int


@dataclass(frozen=True)
class Granted:
    """A grant that names a version, as the governor said."""

    approval_id: str
    endpoint: str
    version: int
    granted_by: str
    granted_at: datetime


@dataclass(frozen=True)
class Retraining:
    """A retraining that started from a version, as the retrainer said; `version` is what it became."""

    retraining_id: str
    parent_version: int
    outcome: str
    version: int | None
    snapshot_digest: str | None
    trained_rows: int

    @classmethod
    def of(cls, event: RetrainingCompleted, outcome: str, version: int | None = None) -> "Retraining":
        """What became of it here: the event's outcome, or that its candidate was refused."""
        told = event.snapshot_digest, event.trained_rows
        return cls(str(event.retraining_id), event.champion_version, outcome, version, *told)


_MOST_FAILURES = 5
_LONGEST_PAUSE_S = 60


@dataclass(frozen=True)
class Arrival:
    """A winning candidate on its way to a version. `attempt` grows with each try: only the last one may end it."""

    event: RetrainingCompleted
    unit: Name
    correlation_id: str
    traceparent: str
    attempt: int = 0
    failures: int = 0
    """How often a process died over it, or failed in a way that nobody foresaw."""

    @property
    def retraining_id(self) -> str:
        """What it is known by: a retraining brings one candidate."""
        return str(self.event.retraining_id)

    def package(self) -> Digest:
        """The digest of its package. Raises Invalid where the retrainer named none."""
        if self.event.package_digest is None:
            raise Invalid("a candidate won without a package", "package_digest")
        return self.event.package_digest

    @property
    def harms(self) -> bool:
        """It ended its process each time: it is not inspected again."""
        return self.failures >= _MOST_FAILURES

    def harm(self) -> str:
        """Why it is not inspected again, for a person."""
        return f"its inspection broke off {self.failures} times, for a reason that only the catalog's log knows"

    def pause(self) -> timedelta:
        """How long to wait after a try that did not come to its end: 2 s, doubled with each, a minute at most."""
        return timedelta(seconds=min(2**self.attempt, _LONGEST_PAUSE_S))

    def training(self) -> Training:
        """How the retrainer made it."""
        said = self.event
        return Training(
            rows=said.trained_rows, data_digest=said.snapshot_digest, metrics=said.candidate_metrics,
            retraining_id=self.retraining_id, parent_version=said.champion_version,
        )  # fmt: skip
