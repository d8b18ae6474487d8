"""Policies: CEL rules in YAML, grouped by the gate of the template that checks them, versioned by their bytes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import BaseModel, ConfigDict

from contracts import Gate
from services.kit import cel

VARIABLES = frozenset({"model", "use_case", "deployment", "bounds"})
"""What a rule can speak of: the registered version, the use case, the request, and the file's own bounds."""


class Policy(BaseModel):
    """One rule: it applies where `applies` holds, and then `rule` must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    says: str
    """The demand, for a person."""
    rule: str
    applies: str = "true"
    facts: dict[str, str] = {}
    """What the gate shows beside its verdict: a CEL expression by name."""


class PolicyFile(BaseModel):
    """The policies of one gate of the template."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: str
    title: str
    bounds: dict[str, Any] = {}
    policies: tuple[Policy, ...]


@dataclass(frozen=True)
class Policies:
    """All policies in force, with the version that a grant names."""

    files: tuple[PolicyFile, ...]
    version: str

    @property
    def gates(self) -> frozenset[str]:
        """The names of the gates that have policies."""
        return frozenset(file.gate for file in self.files)

    def document(self) -> dict[str, Any]:
        """The policies as people read them, under the version that grants name."""
        return {"version": self.version, "gates": [file.model_dump(mode="json") for file in self.files]}

    def judge(self, gate: str, facts: Mapping[str, Any]) -> list[Gate]:
        """The verdict of every policy of a gate that applies to these facts."""
        return [
            verdict
            for file in self.files
            if file.gate == gate
            for policy in file.policies
            if (verdict := _judge(policy, {**facts, "bounds": file.bounds})) is not None
        ]


def load(folder: Path) -> Policies:
    """Read every `*.yaml` of a folder. Raises ValueError naming the file for one that is wrong."""
    files = tuple(_read(path) for path in sorted(folder.glob("*.yaml")))
    names = [policy.name for file in files for policy in file.policies]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"policies named twice: {', '.join(twice)}")
    content = orjson.dumps([file.model_dump(mode="json") for file in files], option=orjson.OPT_SORT_KEYS)
    return Policies(files, f"policies-{hashlib.sha256(content).hexdigest()[:12]}")


def _read(path: Path) -> PolicyFile:
    try:
        file = PolicyFile.model_validate(yaml.safe_load(path.read_text()))
        for policy in file.policies:
            for expression in (policy.rule, policy.applies, *policy.facts.values()):
                cel.check(expression, VARIABLES)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    return file


def _judge(policy: Policy, facts: Mapping[str, Any]) -> Gate | None:
    """A rule that cannot be evaluated is not fulfilled: what is unknown counts as refused."""
    try:
        if not cel.holds(policy.applies, facts):
            return None
        passed = cel.holds(policy.rule, facts)
        shown = {name: _shown(cel.evaluate(expression, facts)) for name, expression in policy.facts.items()}
    except cel.CelError as error:
        return Gate(name=policy.name, passed=False, rule=policy.rule, facts={"error": str(error)[:300]})
    return Gate(name=policy.name, passed=passed, rule=policy.rule, facts={"says": policy.says, **shown})


def _shown(value: Any) -> str | float | int | bool:
    return value if isinstance(value, (str, float, int, bool)) else orjson.dumps(value).decode()[:300]
