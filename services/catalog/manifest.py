"""Reading `fairlead.yaml`."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from services.kit import plain_yaml
from services.kit.cel import CelError
from services.kit.errors import Invalid
from services.kit.inputs import check_texts
from services.kit.kpis import check_kpi
from services.kit.strict import refused

from .domain import MANIFEST, Manifest

MAX_BYTES = 1024 * 1024
M = TypeVar("M", bound=BaseModel)


def read(path: Path, overrides: dict[str, Any]) -> Manifest:
    """The manifest of an unpacked package; of a file that is too large only the beginning is read. Raises Invalid."""
    with path.open("rb") as file:
        return parse(file.read(MAX_BYTES + 1), overrides)


def parse(data: bytes, overrides: dict[str, Any]) -> Manifest:
    """The manifest with the overrides applied. Raises Invalid naming the field."""
    manifest = validated(Manifest, {**_mapping(data), **overrides})
    _check_kpis(manifest)
    return manifest


def _check_kpis(manifest: Manifest) -> None:
    for name, expression in ((manifest.monitor and manifest.monitor.kpis) or {}).items():
        try:
            check_kpi(expression)
        except CelError as error:
            raise Invalid(f"monitor.kpis.{name}: {error}", f"monitor.kpis.{name}") from None


def dump(manifest: Manifest) -> bytes:
    """The manifest as YAML; equal manifests give equal bytes."""
    return yaml.safe_dump(manifest.model_dump(mode="json", exclude_defaults=True), sort_keys=False).encode()


def validated(model: type[M], data: dict[str, Any]) -> M:
    """A strict model of what somebody wrote. Raises Invalid with the first thing that is wrong."""
    check_texts(data, MANIFEST)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise refused(error.errors(include_url=False, include_input=False), data, MANIFEST) from None


def _mapping(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise Invalid(f"{MANIFEST} is larger than {MAX_BYTES} bytes", MANIFEST)
    try:
        content = plain_yaml.load(data)
    except plain_yaml.BadYaml as error:
        raise Invalid(f"{MANIFEST} is not readable YAML: {error}", MANIFEST) from None
    if not isinstance(content, dict):
        raise Invalid(f"{MANIFEST} must be a mapping of names to values", MANIFEST)
    return {str(key): value for key, value in content.items()}
