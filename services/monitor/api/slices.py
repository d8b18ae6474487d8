"""HTTP in: where an endpoint's decisions are worst."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from contracts import Name, Window
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.inputs import Moment, Version
from services.kit.service import router as new_router

from ..domain.outcomes.intervals import ALPHA
from ..domain.outcomes.labelled import Task
from ..domain.outcomes.slices import Worse
from ..usecases.slicing import Slicing, Sought

Limit = Annotated[int, Query(ge=1, le=1000)]
Since = Annotated[Moment | None, Query()]
Number = Annotated[Version | None, Query()]


class ConditionView(BaseModel):
    """One segment and group."""

    segment: str
    group: str


class FigureView(BaseModel):
    """A loss, or a difference of losses, with its interval."""

    value: float
    interval: tuple[float, float]
    rows: int


class SliceView(BaseModel):
    """A slice that is surely worse than all other rows."""

    where: list[ConditionView]
    """One group, or two of different segments."""
    loss: FigureView
    rest: FigureView
    difference: FigureView
    excess: float
    """Of classes, wrong decisions beyond those that there would be at the rest's rate; of numbers, error beyond."""
    like: int | None
    """The place, from 1, of the first slice above that has a group in common: they share rows."""

    @classmethod
    def of(cls, worse: Worse) -> "SliceView":
        loss, rest, difference = (
            FigureView(value=each.value, interval=(each.low, each.high), rows=each.rows)
            for each in (worse.inside, worse.outside, worse.difference)
        )
        where = [ConditionView(segment=segment, group=group) for segment, group in worse.where]
        return cls(where=where, loss=loss, rest=rest, difference=difference, excess=worse.excess, like=worse.like)


class SearchView(BaseModel):
    """The search over one variant's rows whose outcome is known."""

    window: Window
    version: int
    variant: str
    task: Task
    metric: Literal["error rate", "mean absolute error"]
    loss: float
    """Over all rows."""
    segments: list[str]
    possible: int
    """Slices that there can be: the doubt is shared out over so many, however many were seen."""
    looked_at: int
    """Those with enough rows in them and beside them."""
    worse: int
    """So many are surely worse than the rest; the first of them are told."""
    slices: list[SliceView]

    @classmethod
    def of(cls, found: Sought, limit: int) -> "SearchView":
        return cls(
            window=Window(**{"from": found.start, "to": found.end}, rows=found.labelled), version=found.version,
            variant=found.variant, task=found.task, loss=found.loss, segments=list(found.segments),
            metric="mean absolute error" if found.task == "regression" else "error rate", possible=found.possible,
            looked_at=found.looked_at, worse=len(found.worse), slices=[SliceView.of(w) for w in found.worse[:limit]],
        )  # fmt: skip


class SlicesView(BaseModel):
    """Where an endpoint errs most, by version, the newest first."""

    endpoint: str
    confidence: float
    """With which all intervals of a search hold together, at all looks."""
    searches: list[SearchView]


def router(slicing: Slicing) -> APIRouter:
    """Below `/v1/monitors/{endpoint}`."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.get("/{endpoint}/slices")
    async def slices(
        endpoint: Name, caller: Who, version: Number = None, since: Since = None, until: Since = None,
        limit: Limit = 20,
    ) -> SlicesView:  # fmt: skip
        allow(caller, "monitor.read")
        found = await slicing.worst(endpoint, version, since, until)
        searches = [SearchView.of(each, limit) for each in found]
        return SlicesView(endpoint=endpoint, confidence=1 - ALPHA, searches=searches)

    return api
