"""An explanation, from the id of a decision to a record of what was answered."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import orjson

from services.kit.auth import ROLES
from services.kit.context import Caller
from services.kit.db import Database
from services.kit.errors import Conflict, NotFound
from services.kit.ids import now, uuid7
from services.kit.objects import Objects

from ..runtimes.errors import CannotLoad, ModelFailed
from ..settings import ScorerSettings
from . import counterfactual, domain, shapley, store
from .asking import answered
from .coding import Coding
from .deadline import Deadline, OutOfTime
from .domain import Array, Arrays, Explanation, Focus, Method, Row
from .fitting import Fitted, fitted
from .gateway import Records, Version
from .opening import Ask, Models, asking

_BACKGROUND_ROWS = 100
_SEED = 0
_SHARE = 2 / 3
"""Of the time that is left, for contributions; the rest is the counterfactual's."""
_UNKNOWN = "there is no recorded decision with this id"


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    inference_id: str
    row: int
    immutable: Sequence[str]
    budget_s: float
    decision: float | str | None = None
    """What is asked about, where it is not what was decided."""


@dataclass(frozen=True)
class Found:
    """Contributions, how they were found, and on which scale they are."""

    shares: shapley.Shares
    method: Method
    scale: domain.Unit
    base: float
    value: float


@dataclass(frozen=True)
class Case:
    """What is explained."""

    decision: Mapping[str, Any]
    wish: Wish
    row: Row
    version: Version
    coding: Coding
    values: Array
    """[columns]: the row, coded."""


class Explainer:
    """Explains decisions, and tells what was explained before."""

    def __init__(self, settings: ScorerSettings, db: Database, objects: Objects, records: Records) -> None:
        self._settings = settings
        self._db = db
        self._records = records
        self._models = Models(settings, objects)

    async def explain(self, caller: Caller, wish: Wish) -> Explanation:
        """Raises NotFound for a decision that the caller may not see, Conflict and Invalid naming why it cannot be
        explained, Unavailable."""
        started = time.monotonic()
        decision = await self._decision(wish, caller)
        version = await self._records.version(decision["model"], decision["version"])
        row = domain.row_of(decision, wish.row, version.model_schema)
        params = orjson.dumps(decision["params"]) if decision.get("params") else b""
        mutable = domain.may_change(version.model_schema, wish.immutable)
        try:
            async with self._models.opened(version, decision["unit"]) as opened:
                coding, rows = opened.coding.knowing(row.said), opened.rows
                deadline = Deadline(wish.budget_s)
                values = coding.coded(row.said)
                ask = deadline.bounded(asking(opened.runtime, coding, version.model_schema.inputs, params))
                said = await ask(rows)
                focus = domain.focus_of(version.model_schema, row, await ask(values[None, :]), said, wish.decision)
                found = await _found(values, rows, focus, ask, opened.told, deadline)
                steps = counterfactual.Steps.of(rows, coding.texts)
                other = await _counterfactual(values, rows, said, steps, focus, ask, mutable, found.shares, deadline)
        except (ModelFailed, CannotLoad) as error:
            raise Conflict(f"the model cannot be asked: {error}") from None
        case = Case(decision, wish, row, version, coding, values)
        made = _explanation(case, focus, found, min(len(rows), _BACKGROUND_ROWS), other, caller)
        made = domain.timed(made, time.monotonic() - started)
        async with self._db.transaction(unit=made.unit) as tx:
            if not await store.add(tx.session, made, datetime.fromisoformat(decision["received_at"])):
                raise NotFound(_UNKNOWN)
            tx.record(
                "decision.explained", f"{made.endpoint}/{made.inference_id}", row=made.row, method=made.method,
                explanation=str(made.id),
            )  # fmt: skip
        return made

    async def _decision(self, wish: Wish, caller: Caller) -> dict[str, Any]:
        """Another unit's, or for an application another one's, is answered as one that is not there."""
        unknown = NotFound(_UNKNOWN)
        try:
            found = await self._records.decision(wish.inference_id, wish.row)
        except NotFound:
            raise unknown from None
        if not caller.sees(found["unit"]) or not _is_theirs(caller, found["application"]):
            raise unknown
        return found

    def close(self) -> None:
        """End the models that are kept."""
        self._models.close()

    async def show(self, id: UUID, caller: Caller) -> Explanation:
        """One that was made before. Raises NotFound."""
        async with self._db.reading() as session:
            made = await store.get(session, id)
        if not _is_theirs(caller, made.asked_by):
            raise NotFound(f"there is no explanation {id}")
        return made

    async def of_decision(self, inference_id: str, caller: Caller) -> list[Explanation]:
        """Those of a decision, the newest first."""
        async with self._db.reading() as session:
            found = await store.of_decision(session, inference_id)
        return [made for made in found if _is_theirs(caller, made.asked_by)]


async def _found(row: Array, rows: Array, focus: Focus, ask: Ask, told: Arrays, deadline: Deadline) -> Found:
    """Exact where trees, coefficients or few columns let it be, else sampled for a part of what time is left.

    Raises OutOfTime where not even that can be had.
    """
    near = rows[domain.spaced(len(rows), _BACKGROUND_ROWS)]
    value = float(focus.of(await ask(row[None, :]))[0])
    theirs = focus.of(await ask(near))
    fitting = asyncio.to_thread(fitted, told, [focus], near, theirs[None, :], row, np.array([value]))
    if known := await deadline.within(fitting):
        return await deadline.within(asyncio.to_thread(_exactly, known, row))
    scale: domain.Unit = "value" if focus.is_number else "probability"

    async def values(asked: Array) -> Array:
        return focus.of(await ask(asked))

    share_s = deadline.left_s * _SHARE
    until = time.monotonic() + share_s
    if shapley.few(len(row), len(near)) and 2 ** len(row) * len(near) * deadline.row_s < share_s:
        shares = await answered(shapley.of_subsets(row, near), values)
        return Found(shares, "exact", scale, float(theirs.mean()), value)
    sample = shapley.Sample(len(row))
    asking = shapley.sampling(row, near, sample, _SEED)
    asked = next(asking)
    while sample.rounds < 2 or time.monotonic() < until:
        try:
            asked = asking.send(await values(asked))
        except OutOfTime:
            if sample.rounds < 2:
                raise
            break
    shares = sample.shares()
    # Of the rows that were walked from: in the middle of a pass not the mean over all.
    return Found(shares, "sampled", scale, value - float(shares.contributions.sum()), value)


def _exactly(known: Fitted, row: Array) -> Found:
    shares, own = known.shares(row, 0), float(known.values(row)[0])
    return Found(shares, known.method, known.scale, own - float(shares.contributions.sum()), own)


async def _counterfactual(
    row: Array,
    rows: Array,
    said: Arrays,
    steps: counterfactual.Steps,
    focus: Focus,
    ask: Ask,
    mutable: Array,
    shares: shapley.Shares,
    deadline: Deadline,
) -> tuple[counterfactual.Change, float | str] | str:
    """A change and what is decided then, the best that was found within the time; or why there is none."""
    others = rows[focus.otherwise(said)]
    if not len(others):
        return f"the model decides none of the package's {len(rows)} rows otherwise"

    decided: dict[bytes, float | str] = {}

    async def flips(asked: Array) -> Array:
        answer = await ask(asked)
        made = domain.decisions(answer, focus.schema).tolist()
        decided.update(zip((each.tobytes() for each in asked), made, strict=True))
        return focus.otherwise(answer)

    weight = np.abs(shares.contributions)
    known: list[counterfactual.Change] = []
    try:
        await answered(counterfactual.search(row, others, mutable, steps, weight, known), flips)
    except OutOfTime:
        if not known:
            return f"budget_s: {deadline.budget_s:g} s were over before a change was found that turns the decision"
    if not known:
        return "no change of the columns that may change, to values that the package's rows have, turns the decision"
    return known[-1], decided[known[-1].row.tobytes()]


def _explanation(
    case: Case, focus: Focus, found: Found, rows: int, other: tuple[counterfactual.Change, float | str] | str,
    caller: Caller,
) -> Explanation:  # fmt: skip
    decision, wish, coding, values = case.decision, case.wish, case.coding, case.values
    output = domain.output_of(case.version.model_schema, focus)
    change = None if isinstance(other, str) else other
    return Explanation(
        id=uuid7(), inference_id=wish.inference_id, row=wish.row, unit=decision["unit"], endpoint=decision["endpoint"],
        model=decision["model"], version=decision["version"], decided=case.row.decided, method=found.method,
        scale=found.scale, output=output, base=found.base, value=found.value,
        contributions=domain.contributions(coding, values, found.shares.contributions, found.shares.errors),
        background=rows,
        counterfactual=domain.steps(coding, values, change[0].row, change[0].changed) if change else None,
        counterfactual_decides=change[1] if change else None,
        no_counterfactual=other if isinstance(other, str) else None,
        seconds=0.0, asked_by=caller.actor, asked_at=now(), explained=focus.explained,
    )  # fmt: skip


def _is_theirs(caller: Caller, actor: str) -> bool:
    return bool(caller.roles & ROLES["decision.read"]) or caller.actor == actor
