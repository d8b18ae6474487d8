"""A model that a sandbox of its own has opened: what it told there, believed as far as it is well-formed."""

import platform
from typing import Any

from contracts import ParamSpec, TensorSpec
from services.kit.errors import Invalid
from services.kit.models import Told, requirements

from ..domain import Manifest, ManifestParam, ManifestTensor
from ..manifest import validated
from . import Opened


def opened(told: Told, manifest: Manifest, locked: list[str] | None) -> Opened:
    """What a model told of itself; `locked`: what it stands on, where that is its own. Raises Invalid."""
    environment: dict[str, Any] = {"python": platform.python_version(), "made_with": str(told.made_with)[:100]}
    environment["requirements"] = requirements(manifest.format) if locked is None else locked
    if told.untrusted:
        return _not_built(told, manifest, environment)
    return Opened(
        _tensors(told.inputs), _tensors(told.outputs), told.prediction, told.score, environment=environment,
        names=None if told.names is None else tuple(map(str, told.names)), takes_missing=bool(told.takes_missing),
        params=_params(told.params),
    )  # fmt: skip


def _not_built(told: Told, manifest: Manifest, environment: dict[str, Any]) -> Opened:
    """The manifest alone says its tensors."""
    findings = [f"type {str(name)[:200]} is not trusted" for name in told.untrusted]
    decision = manifest.prediction or "label"
    score = [TensorSpec(name=manifest.score, datatype="FP32", shape=(-1, -1))] if manifest.score else []
    return Opened(
        (TensorSpec(name="X", datatype="FP64", shape=(-1, len(manifest.columns) or -1)),),
        (TensorSpec(name=decision, datatype="INT64", shape=(-1,)), *score),
        decision, manifest.score, findings=findings, environment=environment,
    )  # fmt: skip


def _tensors(said: Any) -> tuple[TensorSpec, ...]:
    if not isinstance(said, list | tuple) or len(said) > _MOST:
        raise Invalid(f"the model tells of more than {_MOST} tensors", "package")
    return tuple(TensorSpec(**validated(ManifestTensor, each).model_dump()) for each in said)


def _params(said: Any) -> tuple[ParamSpec, ...]:
    if not isinstance(said, list | tuple) or len(said) > _MOST_PARAMS:
        raise Invalid(f"the model tells of more than {_MOST_PARAMS} params", "package")
    return tuple(ParamSpec(**validated(ManifestParam, each).model_dump()) for each in said)


_MOST = 10_000
_MOST_PARAMS = 200
