"""HTTP in: a version beside the champion, on the same requests."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from contracts import Latency, Name, Window
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.inputs import Moment
from services.kit.service import router as new_router

from ..domain.comparison import figures
from ..domain.comparison.figures import Row, Verdict
from ..domain.comparison.verdicts import Right
from ..domain.outcomes.apart import REST
from ..domain.outcomes.apart import told as named
from ..domain.outcomes.intervals import ALPHA
from ..domain.outcomes.labelled import Task
from ..usecases.paired import Compared, Comparison, Comparisons
from .performance import StatisticView

Limit = Annotated[int, Query(ge=1, le=1000)]
Since = Annotated[Moment | None, Query()]
_OTHERS, _ANOTHER = "(others)", "(another of the others)"


class CellView(BaseModel):
    """Rows by what callers were told and what the other version would have said."""

    told: str
    said: str
    rows: int


class GroupView(BaseModel):
    """One group of a segment; where both differ most, or the other version is worst, comes first."""

    segment: str
    group: str
    rows: int
    statistic: StatisticView

    @classmethod
    def of_all(cls, rows: Sequence[Row]) -> "list[GroupView]":
        return [cls.model_validate(each, from_attributes=True) for each in rows]


class AnswersView(BaseModel):
    """Whatever became of it: what both said."""

    requests: int
    """That both answered."""
    rows: int
    """That were compared."""
    unknown: int
    """Rows that both answered, but not both decisions are known: a payload was not kept, or does not fit."""
    failed: int
    """Rows that callers were answered and the other version refused."""
    failures: dict[str, int]
    """Them by kind of refusal."""
    answered: int | None
    """Rows that callers were told of in these windows, copied or not; None where it is no longer known."""
    statistics: list[StatisticView]
    cells: list[CellView]
    groups: list[GroupView]
    told_latency: Latency | None
    """On the requests that both answered; of a shadow without the time in its queue."""
    said_latency: Latency | None


class OutcomesView(BaseModel):
    """Of rows whose truth is known: who was right."""

    rows: int
    unknown: int
    """Rows of known truth, of which not both decisions are known."""
    both_right: int
    only_told_right: int
    only_said_right: int
    both_wrong: int
    verdict: Verdict
    """Of the other version, by the interval of the difference."""
    statistics: list[StatisticView]
    groups: list[GroupView]

    @classmethod
    def of(cls, each: Compared) -> "OutcomesView":
        right: Right = each.verdicts.whole
        return cls(
            rows=right.rows, unknown=each.verdicts.unknown, both_right=right.both, only_told_right=right.told,
            only_said_right=right.said, both_wrong=right.neither, verdict=figures.verdict(right),
            statistics=StatisticView.of_all(figures.performance(right)),
            groups=GroupView.of_all(figures.improvement_by_group(each.verdicts.groups)),
        )  # fmt: skip


class ComparedView(BaseModel):
    """A span of time."""

    window: Window
    """Its rows are those that both answered and that were compared."""
    answers: AnswersView
    outcomes: OutcomesView

    @classmethod
    def of(cls, each: Compared) -> "ComparedView":
        return cls(
            window=Window(**{"from": each.start, "to": each.end}, rows=each.answers.rows), answers=_answers(each),
            outcomes=OutcomesView.of(each),
        )  # fmt: skip


class ComparisonView(BaseModel):
    """Two versions."""

    version: int
    variant: str
    """Whose answers nobody was told: a shadow's."""
    against: int
    """The version that callers were told of."""
    task: Task | None
    """None while nothing could be compared."""
    overall: ComparedView
    windows: list[ComparedView]
    """The newest first."""

    @classmethod
    def of(cls, found: Comparison, limit: int) -> "ComparisonView":
        whole = found.whole
        return cls(
            version=whole.version, variant=whole.variant, against=whole.against,
            task=whole.answers.task or whole.verdicts.task, overall=ComparedView.of(whole),
            windows=[ComparedView.of(each) for each in found.windows[:limit]],
        )  # fmt: skip


class ComparisonsView(BaseModel):
    """What stood beside the champion, on the same requests."""

    endpoint: str
    confidence: float
    """Of every interval, at all looks together; of groups, of all of them together."""
    window_s: float
    comparisons: list[ComparisonView]


def _answers(each: Compared) -> AnswersView:
    found = each.answers
    cells = [
        CellView(told=_class(told), said=_class(said), rows=rows) for (told, said), rows in sorted(found.cells.items())
    ]
    return AnswersView(
        requests=found.requests, rows=found.rows, unknown=found.unknown, failed=found.failures, failures=found.failed,
        answered=each.answered, statistics=StatisticView.of_all(figures.agreement(found)), cells=cells,
        groups=GroupView.of_all(figures.agreement_by_group(found)), told_latency=found.told_ms.report(),
        said_latency=found.said_ms.report(),
    )  # fmt: skip


def _class(name: str) -> str:
    """Classes that are not told apart, as one; where both said different ones of them, so."""
    if named((name, name)):
        return name
    return _OTHERS if name == REST else _ANOTHER


def router(comparisons: Comparisons) -> APIRouter:
    """Below `/v1/monitors/{endpoint}`."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.get("/{endpoint}/comparison")
    async def comparison(
        endpoint: Name, caller: Who, since: Since = None, until: Since = None, limit: Limit = 24
    ) -> ComparisonsView:
        allow(caller, "monitor.read")
        watched, found = await comparisons.of(endpoint, since, until)
        return ComparisonsView(
            endpoint=watched.endpoint, confidence=1 - ALPHA, window_s=watched.settings.outcome_window_s,
            comparisons=[ComparisonView.of(each, limit) for each in found],
        )  # fmt: skip

    return api
