"""What is expected of an endpoint's decisions by the versions' baselines and the labels so far."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from contracts import ColumnProfile, ModelSchema, Profile
from contracts.profile import CategoricalProfile
from services.kit.groups import class_name

from ..domain.outcomes.decided import Counts, added
from ..domain.outcomes.estimate import Estimate, Estimator, classes_for
from ..domain.outcomes.labelled import Meaning, Task
from ..domain.outcomes.learned import Learned
from ..store.outcomes import Span
from .versions import Versions


@dataclass(frozen=True)
class Declared:
    """What a version's schema and baseline say of its decisions."""

    task: Task
    truth: ColumnProfile | None
    """Labels of the training rows."""
    classes: tuple[str, ...]
    """That the model decided on them."""

    @classmethod
    def of(cls, schema: ModelSchema | None, profile: Profile | None) -> "Declared":
        """As far as they are known."""
        columns = profile.columns if profile else ()
        decided = next((c for c in columns if c.role == "prediction"), None)
        classes = tuple(map(class_name, decided.classes)) if isinstance(decided, CategoricalProfile) else ()
        return cls(Meaning.of(schema, profile).task, profile.label if profile else None, classes)


@dataclass(frozen=True)
class Estimates:
    """What was decided in windows, ready to be estimated with what each version's labels taught."""

    decided: Mapping[Span, Counts]
    estimators: Mapping[int, Estimator]

    @classmethod
    def of(
        cls, decided: Mapping[Span, Counts], learned: Mapping[int, Learned], declared: Mapping[int, Declared]
    ) -> "Estimates":  # fmt: skip
        """With one calibration for all windows of a version."""
        made: dict[int, Estimator] = {}
        for version, of in declared.items():
            taught = learned.get(version, Learned())
            made[version] = Estimator(of.task, classes_for(of.classes, taught), taught)
        return cls(decided, made)

    def window(self, span: Span) -> Estimate | None:
        """Of the decisions of one window."""
        counts = self.decided.get(span)
        return self.estimators[span.version].of(counts) if counts else None

    def whole(self, version: int, variant: str) -> Estimate | None:
        """Of all decisions of one variant of a version."""
        whole: Counts = {}
        for span, counts in self.decided.items():
            if (span.version, span.variant) == (version, variant):
                whole = added(whole, counts)
        return self.estimators[version].of(whole)


async def declared(versions: Versions, endpoint: str, numbers: Iterable[int]) -> dict[int, Declared]:
    """By version."""
    return {number: Declared.of(*await versions.declared(endpoint, number)) for number in set(numbers)}
