"""YAML that people wrote, and that nobody can turn into a bomb."""

from collections import Counter
from collections.abc import Hashable
from typing import Any

import yaml

_DEEPEST = 10

# libyaml where it is there: the Python scanner takes seconds for a megabyte, while it holds the interpreter.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BadYaml(ValueError):
    """A text that is not plain YAML; the message says what is wrong, in one line."""


class _PlainLoader(_Loader):
    """Safe YAML without repeated keys, of which the last one would win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, times in Counter(keys).items():
            if times > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def load(data: bytes) -> Any:
    """What a text says. Raises BadYaml, before anything is built where it multiplies or is nested deeply."""
    try:
        _check_events(data)
        return yaml.load(data, _PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BadYaml(" ".join(str(error).split())[:300]) from None


def _check_events(data: bytes) -> None:
    """Refuse aliases, which multiply, and depth, which exhausts the stack."""
    depth = 0
    for event in yaml.parse(data, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not taken")
        if depth > _DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
