"""Builders of what the catalog's tests need; each defaults what a claim ignores."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from contracts import (
    Column,
    DeploymentChanged,
    Grant,
    ModelSchema,
    MonitorSettings,
    RetrainingCompleted,
    Scan,
    Signature,
    Statement,
    TensorSpec,
    Training,
    Variant,
)
from services.catalog.domain import Candidate, Manifest, Member, ModelVersion, UseCase
from services.kit.signing import digest_of

THEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
SCHEMA = ModelSchema(
    inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 1)),),
    outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
    columns=(Column(name="AGEP", minimum=0),),
    prediction="label",
)


def manifest(**fields: Any) -> Manifest:
    return Manifest.model_validate({"name": "credit", "format": "onnx", "model": "model.onnx"} | fields)


def candidate(content: str = "one", *, training: Training | None = None, scan: str = "clean", **said: Any) -> Candidate:
    return Candidate(
        manifest=manifest(**said),
        digest=digest_of(content.encode()),
        members=(Member(name="model.onnx", size=3, digest=digest_of(b"abc")),),
        model_schema=SCHEMA,
        scan=Scan.model_validate({"verdict": scan, "scanner": "test"}),
        training=training or Training(rows=10, data_digest=digest_of(b"rows")),
        environment={"requirements": ["onnxruntime==1.32.0"]},
        baseline_digest=None,
    )


def version(number: int = 1, **fields: Any) -> ModelVersion:
    return ModelVersion.of(candidate(**fields), number, "retail", "data-scientist", THEN)


def use_case(name: str = "credit-limits", **fields: Any) -> UseCase:
    said = {"use_case": name, "unit": "retail", "title": "Credit limits", "owner": "Risk", "risk_tier": 3}
    return UseCase.model_validate(said | {"purpose": "Who gets how much"} | fields)


def grant(model: str = "credit", number: int = 1, endpoint: str = "limits") -> Grant:
    statement = Statement(
        approval_id=UUID(int=number), deployment_id=UUID(int=2), endpoint=endpoint, use_case="credit-limits",
        model=model, version=number, digest=digest_of(b"one"), policy_version="1", evidence_digest=digest_of(b"e"),
        requested_by="engineer", granted_by="compliance", granted_at=THEN, expires_at=THEN,
    )  # fmt: skip
    return Grant(statement=statement, signature=Signature(key_id="governor-1", value="x"))


def deployment(
    revision: int = 1, number: int = 1, state: str = "serving", endpoint: str = "limits"
) -> DeploymentChanged:
    variant = Variant(
        name="champion", model="credit", version=number, digest=digest_of(b"one"), format="onnx",
        model_schema=SCHEMA, baseline_digest=None, grant=grant(number=number, endpoint=endpoint),
    )  # fmt: skip
    return DeploymentChanged.model_validate({
        "endpoint": endpoint, "unit": "retail", "use_case": "credit-limits", "revision": revision, "state": state,
        "streaming": False, "variants": [variant] if state == "serving" else [], "monitor": MonitorSettings(),
        "signature": Signature(key_id="deployer-1", value="x"),
    })  # fmt: skip


def retraining(outcome: str = "candidate_won", *, id: int = 7, **fields: Any) -> RetrainingCompleted:
    said = {
        "retraining_id": UUID(int=id), "model": "credit", "champion_version": 1, "endpoint": "limits",
        "use_case": "credit-limits", "outcome": outcome, "reason": "better", "requested_by": "service:governor",
        "snapshot_digest": digest_of(b"snapshot"), "trained_rows": 500, "candidate_metrics": {"accuracy": 0.9},
    }  # fmt: skip
    return RetrainingCompleted.model_validate(said | fields)
