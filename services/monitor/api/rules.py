"""HTTP in: how decisions keep the business rules of an endpoint."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from contracts import Name, RuleExample
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.service import router as new_router

from ..domain.rules import examples
from ..domain.windows import moment
from ..usecases.rules import Kept, Ruled, Telling

Windows = Annotated[int, Query(ge=1, le=2_000)]


class RuleView(BaseModel):
    """One rule: over the windows of this answer, and since it is broken."""

    name: str
    must: str
    tolerance: float
    severity: Literal["warning", "critical"]
    rows: int
    """Looked at; of these `broken` broke it, and `undecided` could not be evaluated."""
    broken: int
    undecided: int
    not_looked_at: int
    """Rows that came before it was set, whose payload was not logged, or for which there was no time."""
    share: float | None
    """That broke it, of those that could be evaluated."""
    examples: list[RuleExample]
    """The first that broke it."""
    by_row: bool
    """It needs the evaluator for each row, so where rows are many some are not looked at."""
    why: str | None
    """Why it cannot be evaluated for decisions of the version that serves."""
    alarmed: bool
    since: datetime | None
    """Of the open alert, as are the following; null without one."""
    rows_since: int | None
    broken_since: int | None
    first: list[RuleExample]

    @classmethod
    def of(cls, kept: Kept, rows: int) -> "RuleView":
        """Of so many rows in all."""
        tally, state = kept.tally, kept.keeping if kept.keeping and kept.keeping.told else None
        return cls(
            name=kept.name, must=kept.rule.must, tolerance=kept.rule.tolerance, severity=kept.rule.severity,
            rows=tally.rows, broken=tally.broken, undecided=tally.undecided, not_looked_at=max(0, rows - tally.rows),
            share=tally.broken / tally.decided if tally.decided else None, examples=list(examples(tally.first)),
            by_row=kept.by_row, why=kept.why, alarmed=state is not None,
            since=moment(state.since_s) if state else None, rows_since=state.seen.rows if state else None,
            broken_since=state.seen.broken if state else None,
            first=list(examples(state.seen.first)) if state else [],
        )  # fmt: skip


class RulesView(BaseModel):
    """Of the newest windows, all versions together."""

    endpoint: str
    start: datetime | None
    end: datetime | None
    windows: int
    rows: int
    rules: list[RuleView]

    @classmethod
    def of(cls, told: Ruled) -> "RulesView":
        """In the order in which they were set."""
        return cls(
            endpoint=told.endpoint.endpoint, start=told.span.start, end=told.span.end, windows=told.span.windows,
            rows=told.span.rows, rules=[RuleView.of(each, told.span.rows) for each in told.kept],
        )  # fmt: skip


def router(telling: Telling) -> APIRouter:
    """The route below `/v1/monitors`."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.get("/{endpoint}/rules")
    async def rules(endpoint: Name, caller: Who, windows: Windows = 60) -> RulesView:
        """How decisions kept the business rules of an endpoint, over its newest windows."""
        allow(caller, "monitor.read")
        return RulesView.of(await telling.told(endpoint, windows))

    return api
