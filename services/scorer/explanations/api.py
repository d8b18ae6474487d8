"""HTTP in: explanations."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from services.kit.auth import allow
from services.kit.http import Body, Who
from services.kit.service import router as new_router
from services.kit.turns import Turns

from .domain import PATH, Explanation, Method, Unit
from .usecases import Explainer, Wish

_Column = Annotated[str, Field(min_length=1, max_length=200)]


class ExplanationAsk(Body):
    """Which decision, and within which time."""

    inference_id: Annotated[str, Field(min_length=1, max_length=100)]
    row: Annotated[int, Field(ge=0, lt=1000)] = 0
    immutable: Annotated[list[_Column], Field(max_length=1000)] = []
    """Columns that a counterfactual leaves as they are, beside the protected ones."""
    budget_s: Annotated[float, Field(gt=0, le=30)] = 5.0
    """How long the open model is asked, all in all: two thirds of it for contributions."""
    decision: float | Annotated[str, Field(max_length=1000)] | None = None
    """Another decision of the model: what speaks for it, and what would have led to it; none: the one that was made."""


class ContributionView(BaseModel):
    """What one column added; `error`: its standard error, where it was sampled."""

    column: str
    value: float | str | None
    contribution: float
    error: float | None


class StepView(BaseModel):
    """A column that is otherwise in the counterfactual."""

    column: str
    value: float | str | None
    instead: float | str | None


class ExplanationView(BaseModel):
    """Why a row was decided as it was: `base` and all contributions make `value`, on the scale that is named."""

    id: UUID
    inference_id: str
    row: int
    endpoint: str
    model: str
    version: int
    decided: float | str
    method: Method
    scale: Unit
    output: str
    explained: float | str | None
    """The decision that `output` is the score of; none of a number."""
    base: float
    value: float
    contributions: list[ContributionView]
    background: int
    counterfactual: list[StepView] | None
    counterfactual_decides: float | str | None
    no_counterfactual: str | None
    seconds: float
    asked_by: str
    asked_at: datetime

    @classmethod
    def of(cls, made: Explanation) -> "ExplanationView":
        """An explanation as a caller sees it."""
        return cls.model_validate(made, from_attributes=True)


class Explanations(BaseModel):
    """Those of one decision, the newest first."""

    items: list[ExplanationView]
    next: None = None


def router(explainer: Explainer, turns: Turns) -> APIRouter:
    """The routes."""
    routes = new_router(tags=["explanations"])

    @routes.post(PATH, status_code=201)
    async def explain(ask: ExplanationAsk, response: Response, caller: Who) -> ExplanationView:
        """What each column contributed to a decision, and what would have changed it."""
        allow(caller, "inference.explain")
        with turns.turn(caller.actor):
            made = await explainer.explain(caller, Wish(**ask.model_dump()))
        response.headers["Location"] = f"{PATH}/{made.id}"
        return ExplanationView.of(made)

    @routes.get(PATH)
    async def explanations(inference_id: Annotated[str, Query(max_length=100)], caller: Who) -> Explanations:
        """Those of a decision that were made before."""
        allow(caller, "inference.explain")
        found = await explainer.of_decision(inference_id, caller)
        return Explanations(items=[ExplanationView.of(made) for made in found])

    @routes.get(PATH + "/{id}")
    async def explanation(id: UUID, caller: Who) -> ExplanationView:
        """One that was made before."""
        allow(caller, "inference.explain")
        return ExplanationView.of(await explainer.show(id, caller))

    return routes
