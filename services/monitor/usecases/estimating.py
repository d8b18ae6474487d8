"""What is expected of an endpoint's decisions by the versions' baselines and the labels so far."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..domain.outcomes.decided import Counts, added
from ..domain.outcomes.estimate import Estimate, Estimator, classes_for
from ..domain.outcomes.learned import Learned
from ..domain.outcomes.tally import Tally
from ..store.outcomes import Span
from .versions import Watched


@dataclass(frozen=True)
class Estimates:
    """What was decided in windows, ready to be estimated with what each version's labels taught."""

    decided: Mapping[Span, Counts]
    estimators: Mapping[int, Estimator]

    @classmethod
    def of(
        cls, decided: Mapping[Span, Counts], learned: Mapping[int, Learned], known: Mapping[int, Watched],
        labelled: Iterable[tuple[Span, Tally]],
    ) -> "Estimates":  # fmt: skip
        """With one calibration for all windows of a version; `labelled` rows tell what its wrong decisions turned out
        to be."""
        cells: dict[int, Counter[tuple[str, str]]] = defaultdict(Counter)
        for span, tally in labelled:
            cells[span.version].update({key: cell.rows for key, cell in tally.cells.items()})
        made: dict[int, Estimator] = {}
        for version, of in known.items():
            taught = learned.get(version, Learned())
            made[version] = Estimator(of.meaning.task, classes_for(of.classes, taught), taught, cells[version])
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
