"""V2's model repository: what a caller finds here, of what shape it is, and whether it would be answered."""

from collections.abc import Iterator
from typing import Any, Literal

from contracts import Format
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.errors import Unavailable

from .dataplane import DataPlane
from .endpoints import Endpoint
from .served import Served

State = Literal["READY", "LOADING", "UNAVAILABLE"]
Listed = dict[str, str]
"""`name`, `version`, `state`, and the `reason` where it is not READY."""
PLATFORMS: dict[Format, str] = {
    "onnx": "onnx_onnxv1", "sklearn": "sklearn_skops", "xgboost": "xgboost_model", "lightgbm": "lightgbm_model",
    "rules": "fairlead_rules", "python": "python_function", "mlflow": "mlflow_pyfunc", "river": "river_pickle",
    "process": "fairlead_process", "external": "fairlead_external",
}  # fmt: skip
"""What V2 is told of each format."""


def index(plane: DataPlane, caller: Caller, *, ready_only: bool = False) -> list[Listed]:
    """The versions behind the endpoints of a caller's units. A model that sleeps is READY: it is opened for a request.

    Raises Forbidden for one who may use none.
    """
    allow(caller, "inference.score")
    found = [one for endpoint in plane.endpoints.values() if caller.sees(endpoint.unit) for one in _versions(endpoint)]
    for name, origin in plane.stopped.items():
        if caller.sees(origin.unit):
            found.append(_said(name, origin.version, "UNAVAILABLE", plane.why_stopped(name)))
    for name, origin in plane.awaited.items():
        if name not in plane.endpoints and name not in plane.stopped and caller.sees(origin.unit):
            found.append(_said(name, origin.version, "LOADING", plane.why_awaited(name)))
    return [one for one in found if one["state"] == "READY"] if ready_only else found


def _versions(endpoint: Endpoint) -> Iterator[Listed]:
    for variant in endpoint.change.variants:
        if variant.version in endpoint.by_version:
            away = endpoint.by_version[variant.version].lane.away
            yield _said(endpoint.name, variant.version, "UNAVAILABLE" if away else "READY", away)
        elif variant.version not in endpoint.barred:
            yield _said(endpoint.name, variant.version, "UNAVAILABLE", "it is not loaded here")


def _said(name: str, version: int, state: State, reason: str) -> Listed:
    return {"name": name, "version": str(version), "state": state, "reason": reason}


def ready(endpoint: Endpoint, away: str) -> dict[str, Any]:
    """Raises Unavailable, which is how V2's clients read that a model is not ready."""
    if away:
        raise Unavailable(f"endpoint {endpoint.name} is not ready: {away}")
    return {"name": endpoint.name, "ready": True}


def metadata(endpoint: Endpoint, served: Served) -> dict[str, Any]:
    """A version's tensors and what they are called, as V2 says it."""

    def tensors(specs: Any) -> list[dict[str, Any]]:
        return [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in specs]

    schema = served.schema
    return {
        "name": endpoint.name,
        "versions": [str(version) for version in endpoint.by_version],
        "platform": PLATFORMS[served.variant.format],
        "inputs": tensors(schema.inputs),
        "outputs": tensors(schema.outputs),
        "parameters": {
            "columns": [column.name for column in schema.columns],
            "nullable": [column.name for column in schema.columns if column.nullable],
            "prediction": schema.prediction,
            "model": served.origin.model,
            "version": str(served.origin.version),
            "params": [spec.model_dump(mode="json") for spec in schema.params],
        },
    }
