"""Which outcomes count for which experiment, and how much a reward each is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contracts import DeploymentChanged, OutcomeObserved
from services.kit.groups import class_name


@dataclass(frozen=True)
class Experiment:
    """A bandit that runs: what was decided since its beginning by one of its arms counts."""

    endpoint: str
    salt: str
    since: datetime
    versions: frozenset[int]


def experiments_of(wanted: Mapping[str, Any]) -> dict[str, Experiment]:
    """The bandits among the desired states of a host, by endpoint."""
    found: dict[str, Experiment] = {}
    for name, state in wanted.items():
        if (state.get("routing") or {}).get("strategy") != "bandit":
            continue
        change = DeploymentChanged.model_validate(state)
        assert change.routing is not None
        arms = frozenset(variant.version for variant in change.variants if variant.role == "live")
        found[name] = Experiment(name, change.routing.salt, change.routing.since, arms)
    return found


def counts(outcome: OutcomeObserved, experiment: Experiment | None) -> bool:
    """Whether an outcome is of a decision that an arm of the experiment made while it ran."""
    return (
        experiment is not None
        and outcome.version in experiment.versions
        and outcome.received_at >= experiment.since
    )  # fmt: skip


def reward_of(outcome: OutcomeObserved) -> float | None:
    """The value where it lies between 0 and 1; else 1 for a prediction that came true and 0 for one that did not. None
    where neither is known, nor what was decided, and of a shadow, which decided nothing."""
    if outcome.shadow_of is not None:
        return None
    if outcome.value is not None:
        return outcome.value if 0.0 <= outcome.value <= 1.0 else None
    if outcome.label is None or outcome.prediction is None:
        return None
    said, true = outcome.prediction, outcome.label
    return float(class_name(said) == class_name(true) or str(said) == str(true))  # 1.0 is "1" and "1.0"
