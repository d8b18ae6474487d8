"""Facts that the tests start from; each test changes what its claim is about."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from contracts import (
    Column,
    DeploymentChanged,
    DeploymentRequested,
    DeploymentSettled,
    DriftDetected,
    FeatureEvidence,
    Gate,
    Grant,
    ModelRegistered,
    ModelSchema,
    MonitorSettings,
    Scan,
    Signature,
    TensorSpec,
    Training,
    UseCaseRegistered,
    Variant,
    Window,
)
from services.governor.domain.approval import Approval

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
BASELINE = "sha256:" + "b" * 64

SCHEMA = ModelSchema(
    inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 2)),),
    outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
    columns=(Column(name="AGEP"), Column(name="SEX", kind="categorical", categories=(1, 2), protected=True)),
    prediction="label",
)


def use_case(**changes: Any) -> UseCaseRegistered:
    facts: dict[str, Any] = {
        "use_case": "lending", "title": "Lending", "unit": "retail", "owner": "engineer", "risk_tier": 2,
        "purpose": "decide about loans", "protected": ("SEX",),
    }  # fmt: skip
    return UseCaseRegistered(**facts | changes)


def model(**changes: Any) -> ModelRegistered:
    facts: dict[str, Any] = {
        "model": "credit", "version": 1, "unit": "retail", "digest": DIGEST, "format": "onnx", "executes_code": False,
        "model_schema": SCHEMA, "baseline_digest": BASELINE, "scan": Scan(verdict="clean", scanner="test"),
        "training": Training(rows=1000, metrics={"accuracy": 0.83}), "retrainable": True,
        "registered_by": "data-scientist",
    }  # fmt: skip
    return ModelRegistered(**facts | changes)


def deployment(**changes: Any) -> DeploymentRequested:
    facts: dict[str, Any] = {
        "deployment_id": uuid4(), "endpoint": "credit-live", "use_case": "lending", "unit": "retail",
        "model": "credit", "version": 1, "digest": DIGEST, "strategy": "direct", "streaming": False,
        "requested_by": "engineer",
    }  # fmt: skip
    return DeploymentRequested(**facts | changes)


def drift(**changes: Any) -> DriftDetected:
    facts: dict[str, Any] = {
        "endpoint": "credit-live", "use_case": "lending", "model": "credit", "version": 1,
        "window": Window(**{"from": NOW, "to": NOW + timedelta(seconds=10)}, rows=500), "since": NOW,
        "detector": "mixture", "statistic": 20.0, "budget_rows": 1_000_000, "rows_watched": 9_000,
        "features": (FeatureEvidence(name="AGEP", effect=0.7, interval=(0.6, 0.8), tolerance=0.1),), "retrain": True,
    }  # fmt: skip
    return DriftDetected(**facts | changes)


def changed(grant: Grant, **changes: Any) -> DeploymentChanged:
    statement = grant.statement
    variant = Variant(
        name="champion", model=statement.model, version=statement.version, digest=statement.digest, format="onnx",
        model_schema=SCHEMA, baseline_digest=BASELINE, grant=grant,
    )  # fmt: skip
    facts: dict[str, Any] = {
        "endpoint": statement.endpoint, "unit": "retail", "use_case": statement.use_case, "revision": 1,
        "state": "serving", "streaming": False, "variants": (variant,), "monitor": MonitorSettings(),
        "signature": Signature(key_id="deployer-000000000000", value="AA=="),
    }  # fmt: skip
    return DeploymentChanged(**facts | changes)


def settled(asked: DeploymentRequested, **changes: Any) -> DeploymentSettled:
    facts: dict[str, Any] = {
        "deployment_id": asked.deployment_id, "endpoint": asked.endpoint, "model": asked.model,
        "version": asked.version, "state": "serving",
    }  # fmt: skip
    return DeploymentSettled(**facts | changes)


def facts_of(
    use: UseCaseRegistered, registered: ModelRegistered, asked: DeploymentRequested, *, retired: bool = False
) -> dict[str, Any]:
    return {
        "use_case": use.model_dump(mode="json"),
        "model": registered.model_dump(mode="json") | {"retired": retired},
        "deployment": asked.model_dump(mode="json"),
    }


def approval(**changes: Any) -> Approval:
    facts: dict[str, Any] = {
        "id": uuid4(), "process_id": uuid4(), "deployment_id": uuid4(), "unit": "retail", "endpoint": "credit-live",
        "use_case": "lending", "model": "credit", "version": 1, "digest": DIGEST, "requested_by": "engineer",
        "also_asked_by": (), "gates": (Gate(name="ok", passed=True, rule="true", facts={}),),
        "evidence_digest": DIGEST, "policy_version": "policies-1", "requested_at": NOW,
    }  # fmt: skip
    return Approval(**facts | changes)


def some_id(number: int) -> UUID:
    return UUID(int=number)
