"""Reading `fairlead.yaml`: YAML that people wrote, and that nobody can turn into a bomb."""

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from services.kit.errors import Invalid
from services.kit.inputs import check_texts
from services.kit.strict import refused

from .domain import MANIFEST, Manifest

MAX_BYTES = 1024 * 1024
M = TypeVar("M", bound=BaseModel)


_DEEPEST = 10

# libyaml where it is there: the Python scanner takes seconds for a megabyte, while it holds the interpreter.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_Loader):
    """Safe YAML without repeated keys, of which the last one would win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, times in Counter(keys).items():
            if times > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def read(path: Path, overrides: dict[str, Any]) -> Manifest:
    """The manifest of an unpacked package; of a file that is too large only the beginning is read. Raises Invalid."""
    with path.open("rb") as file:
        return parse(file.read(MAX_BYTES + 1), overrides)


def parse(data: bytes, overrides: dict[str, Any]) -> Manifest:
    """The manifest with the overrides applied. Raises Invalid naming the field."""
    return validated(Manifest, {**_mapping(data), **overrides})


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
        _check_events(data)
        content = yaml.load(data, _PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Invalid(f"{MANIFEST} is not readable YAML: {' '.join(str(error).split())[:300]}", MANIFEST) from None
    if not isinstance(content, dict):
        raise Invalid(f"{MANIFEST} must be a mapping of names to values", MANIFEST)
    return {str(key): value for key, value in content.items()}


def _check_events(data: bytes) -> None:
    """Refuse aliases, which multiply, and depth, which exhausts the stack, before anything is built."""
    depth = 0
    for event in yaml.parse(data, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not taken")
        if depth > _DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
