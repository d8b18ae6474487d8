"""An explanation, from the id of a decision to a record of what was answered."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID

import numpy as np

from contracts import TensorSpec
from services.kit.auth import ROLES
from services.kit.context import Caller
from services.kit.db import Database
from services.kit.errors import Conflict, NotFound, Unavailable
from services.kit.ids import now, uuid7
from services.kit.models.feeding import feed, texts_of
from services.kit.models.wire import WireError, unpack
from services.kit.objects import Objects
from services.kit.sandbox import SandboxError, SandboxUnavailable, run_sandboxed

from ..engines import ThreadClock
from ..packages import ModelFile, Packages
from ..runtimes import Remote, Runtime
from ..runtimes.errors import CannotLoad, ModelFailed
from ..runtimes.opening import load
from ..runtimes.sandboxed import SandboxedRuntime
from ..settings import ScorerSettings
from . import background, counterfactual, domain, onnx_structure, shapley, store, structure
from .coding import Coding, checked
from .domain import Array, Arrays, Explanation, Focus, Method, Row
from .gateway import Records, Version
from .kept import Kept, Opened

T = TypeVar("T")
Ask = Callable[[Array], Awaitable[Arrays]]
"""Rows [m, columns] to what the model answers."""

_BACKGROUND_ROWS, _OTHER_ROWS = 100, 1000
_SEED = 0
_UNKNOWN = "there is no recorded decision with this id"
_CALL_BYTES = 16 * 1024 * 1024
"""Of rows that a model is asked about at once: one of long texts may be asked about many."""


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    inference_id: str
    row: int
    immutable: Sequence[str]
    budget_s: float


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
        self._objects = objects
        self._records = records
        self._packages = Packages(settings.run_folder.absolute(), settings.package_bytes)
        self._kept = Kept(settings.explained_kept, settings.explained_kept_mb, settings.explained_kept_s)

    async def explain(self, caller: Caller, wish: Wish) -> Explanation:
        """Raises NotFound for a decision that the caller may not see, Conflict and Invalid naming why it cannot be
        explained, Unavailable."""
        started = time.monotonic()
        decision = await self._decision(wish.inference_id, caller)
        version = await self._records.version(decision["model"], decision["version"])
        row = domain.row_of(decision, wish.row, version.model_schema)
        mutable = domain.may_change(version.model_schema, wish.immutable)
        try:
            async with self._opened(version, decision["unit"]) as opened:
                coding, rows = opened.coding.knowing(row.said), opened.rows
                values, ask = coding.coded(row.said), _asking(opened.runtime, coding, version.model_schema.inputs)
                said = await ask(rows)
                focus = domain.focus_of(version.model_schema, row, await ask(values[None, :]), said)
                found = await _found(values, rows, focus, ask, opened.told, started + wish.budget_s)
                steps = counterfactual.Steps.of(rows, coding.texts)
                other = await _counterfactual(values, rows, said, steps, focus, ask, mutable, found.shares)
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

    async def _decision(self, inference_id: str, caller: Caller) -> dict[str, Any]:
        """Another unit's, or for an application another one's, is answered as one that is not there."""
        unknown = NotFound(_UNKNOWN)
        try:
            found = await self._records.decision(inference_id)
        except NotFound:
            raise unknown from None
        if not caller.sees(found["unit"]) or not _is_theirs(caller, found["application"]):
            raise unknown
        return found

    def close(self) -> None:
        """End the models that are kept."""
        self._kept.close()

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

    async def _file(self, digest: str) -> ModelFile:
        if not await asyncio.to_thread(self._packages.whole, digest):
            await self._objects.fetch(digest, self._packages.path(digest))
        return await asyncio.to_thread(self._packages.unpack, digest)

    async def _reference_rows(self, file: ModelFile, version: Version) -> tuple[Coding, Array]:
        """Rows that the package brings, [m, columns]. Raises Conflict where it brings none."""
        if file.training is None:
            raise Conflict(
                "the version's package brings no training rows: there is nothing to compare the decision with"
            )
        columns, texts = version.model_schema.columns, texts_of(version.model_schema)
        job = {
            "package": str(file.package), "training": file.training, "most": _OTHER_ROWS,
            "columns": [column.name for column in columns], "texts": sorted(texts),
        }  # fmt: skip
        try:
            said = await run_sandboxed(
                background.ENTRY, json.dumps(job).encode(), preload=background.PRELOAD, readable=[file.package],
                memory_mb=self._settings.sandbox_memory_mb, deadline_s=self._settings.sandbox_load_s, name="background",
            )  # fmt: skip
            found = unpack(said)
            places = [place for place, column in enumerate(columns) if column.name in texts]
            classes = {place: tuple(found[f"classes.{place}"].tolist()) for place in places}
            return checked(columns, classes, found["rows"]), found["rows"]
        except (SandboxError, WireError, KeyError) as error:
            raise Conflict(f"the package's training rows cannot be read: {str(error)[:200]}") from None
        except SandboxUnavailable as error:
            raise Unavailable(str(error)) from None

    @asynccontextmanager
    async def _opened(self, version: Version, unit: str) -> AsyncGenerator[Opened]:
        """The model with its reference rows: kept from the last explanation, or opened now.

        The bytes are checked and the catalog is asked in either case. What is no longer registered is not kept.
        """
        file = await self._file(version.digest)

        async def opened() -> Opened:
            coding, rows = await self._reference_rows(file, version)
            runtime = await load(version.format, file, version.model_schema, self._settings, unit, ThreadClock())
            try:
                # Texts stand as numbers here which no structure of the model's own knows.
                told = {} if coding.classes else await _structure(runtime, file)
            except BaseException:
                runtime.close()
                raise
            return Opened(runtime, told, coding, rows)

        key = f"{unit} {version.digest} {version.format} {version.model_schema.model_dump_json()}"
        async with self._kept.lent(key, opened, keep=version.is_registered) as made:
            yield made


def _asking(runtime: Runtime | Remote, coding: Coding, inputs: tuple[TensorSpec, ...]) -> Ask:
    """How a model is asked about coded rows."""

    async def answer(rows: Array) -> Arrays:
        fed = feed(inputs, coding.fed(rows))
        if hasattr(runtime, "call"):
            return await cast(Remote, runtime).call(fed)
        return await asyncio.to_thread(cast(Runtime, runtime).predict, fed)

    return _in_parts(answer, max(1, _CALL_BYTES // coding.row_bytes))


def _in_parts(answer: Ask, most: int) -> Ask:
    """Asks about at most so many rows at once."""

    async def ask(rows: Array) -> Arrays:
        if len(rows) <= most:
            return await answer(rows)
        parts = [await answer(rows[start : start + most]) for start in range(0, len(rows), most)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return ask


async def _structure(runtime: object, file: ModelFile) -> Arrays:
    if isinstance(runtime, SandboxedRuntime):
        return await runtime.structure()
    if file.name.endswith(".onnx"):
        return await asyncio.to_thread(onnx_structure.structure, file.read()) or {}
    return {}


async def _found(row: Array, rows: Array, focus: Focus, ask: Ask, told: Arrays, until: float) -> Found:
    """Exact where trees, coefficients or few columns let it be, else sampled until the time is over."""
    near = rows[np.linspace(0, len(rows) - 1, min(len(rows), _BACKGROUND_ROWS)).astype(int)]
    value = float(focus.of(await ask(row[None, :]))[0])
    theirs = focus.of(await ask(near))
    if exact := await asyncio.to_thread(_by_structure, row, near, focus, told, value, theirs):
        return exact
    scale: domain.Unit = "value" if focus.is_number else "probability"

    async def values(asked: Array) -> Array:
        return focus.of(await ask(asked))

    if shapley.few(len(row), len(near)):
        shares = await _answered(shapley.of_subsets(row, near), values)
        return Found(shares, "exact", scale, float(theirs.mean()), value)
    sample = shapley.Sample(len(row))
    asking = shapley.sampling(row, near, sample, _SEED)
    asked = next(asking)
    while sample.rounds < 2 or time.monotonic() < until:
        asked = asking.send(await values(asked))
    shares = sample.shares()
    # Of the rows that were walked from: in the middle of a pass not the mean over all.
    return Found(shares, "sampled", scale, value - float(shares.contributions.sum()), value)


def _by_structure(row: Array, near: Array, focus: Focus, told: Arrays, value: float, theirs: Array) -> Found | None:
    """None where the model has no structure, or one whose sums are not what the model answers."""
    try:
        if "coefficients" in told:
            return _linear(row, near, focus, told, value, theirs)
        return _trees(row, near, focus, told, value, theirs) if "left" in told else None
    except structure.NotUsable:
        return None


def _trees(row: Array, near: Array, focus: Focus, told: Arrays, value: float, theirs: Array) -> Found | None:
    outputs = told["values"].shape[1]
    forests = [structure.forest(told, output, len(row)) for output in range(outputs)]
    raw = np.array([forest.value(row) for forest in forests])
    output = min(focus.output, outputs - 1)
    if (scale := domain.scale_of(raw, output, focus, value)) is None:
        return None
    sums = np.array([[forest.value(other) for forest in forests] for other in near])
    if not domain.fits(sums, output, focus, scale, theirs):
        return None
    forest, sign = forests[output], domain.side_of(outputs, focus, scale)
    shares = shapley.of_forest(forest, row, near)
    total = float(shares.contributions.sum())
    own = float(forest.value(row))
    return Found(shapley.Shares(sign * shares.contributions, None), "trees", scale, sign * (own - total), sign * own)


def _linear(row: Array, near: Array, focus: Focus, told: Arrays, value: float, theirs: Array) -> Found | None:
    outputs = len(told["base"])
    known = [structure.linear(told, output, len(row)) for output in range(outputs)]
    output = min(focus.output, outputs - 1)
    raw = np.array([base + coefficients @ row for coefficients, base in known])
    if np.isnan(raw).any() or (scale := domain.scale_of(raw, output, focus, value)) is None:
        return None
    sums = np.array([base + near @ coefficients for coefficients, base in known]).T
    if not domain.fits(sums, output, focus, scale, theirs):
        return None
    coefficients, base = known[output]
    sign = domain.side_of(outputs, focus, scale)
    shares = shapley.of_linear(sign * coefficients, row, near)
    own = sign * float(base + coefficients @ row)
    return Found(shares, "linear", scale, own - float(shares.contributions.sum()), own)


async def _counterfactual(
    row: Array,
    rows: Array,
    said: Arrays,
    steps: counterfactual.Steps,
    focus: Focus,
    ask: Ask,
    mutable: Array,
    shares: shapley.Shares,
) -> tuple[counterfactual.Change, float | str] | str:
    """A change and what is decided then; or why there is none."""
    others = rows[focus.otherwise(said)]
    if not len(others):
        return f"the model decides none of the package's {len(rows)} rows otherwise"

    async def flips(asked: Array) -> Array:
        return focus.otherwise(await ask(asked))

    weight = np.abs(shares.contributions)
    found = await _answered(counterfactual.search(row, others, mutable, steps, weight), flips)
    if found is None:
        return "no change of the columns that may change, to values that the package's rows have, turns the decision"
    decided = domain.decisions(await ask(found.row[None, :]), focus.schema)[0]
    return found, decided


async def _answered(asking: Generator[Array, Array, T], answer: Callable[[Array], Awaitable[Array]]) -> T:
    try:
        asked = next(asking)
        while True:
            asked = asking.send(await answer(asked))
    except StopIteration as ended:
        return ended.value


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
        seconds=0.0, asked_by=caller.actor, asked_at=now(),
    )  # fmt: skip


def _is_theirs(caller: Caller, actor: str) -> bool:
    return bool(caller.roles & ROLES["decision.read"]) or caller.actor == actor
