"""Attributions of many rows by one measure: the same function of the answer and the same background for all of them, so
that what they are today can be compared with what they were. Exact where the model's structure lets them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from contracts import Explaining, ModelSchema
from services.kit.errors import Conflict
from services.kit.explaining import why_unexplained
from services.kit.models.feeding import texts_of

from . import domain, shapley
from .asking import answered
from .coding import Coding, Told
from .domain import Array, Arrays, Focus, Method, Unit
from .fitting import Fitted, fitted
from .kept import Opened
from .opening import Ask, asking

BACKGROUND_ROWS = 25
"""A quarter of what an explanation takes: a fixed background biases both sides of a comparison alike."""
REFERENCE_ROWS = 750
KEPT_COLUMNS = 64
_EXACT_ROWS = 4_000
_STEPS = 4
"""Of the sampling, each of eight orders of the columns: a fixed number, since errors count as influence."""
_SEED = 0


@dataclass(frozen=True)
class Measure:
    """How rows of a version are explained; holds no sandbox where the structure tells all."""

    schema: ModelSchema
    coding: Coding
    near: Array
    foci: tuple[Focus, ...]
    """One number, the same of every row; or the scores of more than two classes, of which a row's own is explained."""
    method: Method
    scale: Unit
    structure: Fitted | None

    @property
    def output(self) -> str:
        """What is explained, by its name in an answer."""
        return domain.output_of(self.schema, self.foci[0]) if len(self.foci) == 1 else f"{self.schema.score}[likeliest]"

    async def contributions(
        self, rows: Sequence[Sequence[Told]], asked: Callable[[Coding], Ask] | None
    ) -> tuple[Array, int]:
        """Of rows as they were logged: [explained rows, columns], and how many cannot be explained. `asked`, how the
        model is asked about rows of a coding, is needed where the structure does not tell all."""
        texts = texts_of(self.schema)
        fit = [row for row in rows if _fits(self.schema, texts, row)]
        coding = self.coding
        for row in fit:
            coding = coding.knowing(row)
        coded = np.array([coding.coded(row) for row in fit], float).reshape(len(fit), len(self.schema.columns))
        found = await self.coded(coded, asked(coding) if asked else None)
        kept = np.isfinite(found).all(axis=1)
        return found[kept], len(rows) - int(kept.sum())

    async def coded(self, rows: Array, ask: Ask | None) -> Array:
        """Of coded rows [m, columns]; a row that cannot be explained is not finite."""
        if known := self.structure:
            return await asyncio.to_thread(
                lambda: np.array([_told(known, row) for row in rows]).reshape(rows.shape)
            )  # fmt: skip
        assert ask is not None
        own = await self._own(rows, ask)
        made = [await _asked(row, self.near, focus, self.method, ask) for row, focus in zip(rows, own, strict=True)]
        return np.array(made).reshape(rows.shape)

    async def _own(self, rows: Array, ask: Ask) -> list[Focus]:
        """Of each row the number that is explained."""
        if len(self.foci) == 1 or not len(rows):
            return [self.foci[0]] * len(rows)
        said = await ask(rows)
        return [self.foci[place] for place in np.argmax([focus.of(said) for focus in self.foci], axis=0)]


async def measure(opened: Opened, schema: ModelSchema, explaining: Explaining, format: str) -> tuple[Measure, Array]:
    """How a version's rows are explained, and its reference rows [m, columns] apart from the background, evenly spaced.

    Raises Conflict, naming why it cannot be or is not to be.
    """
    check(schema)
    if not opened.told:
        ask_allowed(explaining, format)
    ask = asking(opened.runtime, opened.coding, schema.inputs)
    said = await ask(opened.rows)
    foci = foci_of(schema, said)
    places = domain.spaced(len(opened.rows), BACKGROUND_ROWS)
    near, theirs = opened.rows[places], np.array([focus.of(said)[places] for focus in foci])
    others = np.delete(opened.rows, places, axis=0)
    spaced = others[domain.spaced(len(others), REFERENCE_ROWS)]
    if found := await asyncio.to_thread(fitted, opened.told, foci, near, theirs, near[0], theirs[:, 0]):
        return Measure(schema, opened.coding, near, foci, found.method, found.scale, found), spaced
    ask_allowed(explaining, format)
    exact = 2 ** len(schema.columns) * len(near) <= _EXACT_ROWS
    scale = "value" if foci[0].is_number else "probability"
    return Measure(schema, opened.coding, near, foci, "exact" if exact else "sampled", scale, None), spaced


def ask_allowed(explaining: Explaining, format: str) -> None:
    """Raises Conflict where a model that tells no structure is not to be asked."""
    if explaining != "any":
        raise Conflict(
            f"the structure of this {format} model tells no exact attributions; with attributions: any they are sampled"
        )


def check(schema: ModelSchema) -> None:
    """Raises Conflict for a schema whose rows cannot be explained."""
    if why := why_unexplained(schema):
        raise Conflict(why)


def foci_of(schema: ModelSchema, said: Arrays) -> tuple[Focus, ...]:
    """What is explained of a row: the score of the second of two classes, of more classes that of its likeliest one, so
    the scores of all; the number of a regression; else whether the decision is the commonest of the reference rows."""
    commonest = Counter(domain.decisions(said, schema).tolist()).most_common(1)[0][0]
    if schema.score is None:
        return (Focus(schema, commonest, 0),)
    classes = said[schema.score].reshape(len(said[schema.score]), -1).shape[1]
    return tuple(Focus(schema, commonest, place) for place in ([classes - 1] if classes <= 2 else range(classes)))


def influential(reference: Array) -> Array:
    """Places of the columns that are told, in their order: those of the largest contributions [m, columns]."""
    sizes = np.abs(reference).mean(axis=0)
    return np.sort(np.argsort(-sizes, kind="stable")[:KEPT_COLUMNS])


def _fits(schema: ModelSchema, texts: frozenset[str], row: Sequence[Told]) -> bool:
    return len(row) == len(schema.columns) and all(
        isinstance(value, str) == (column.name in texts) for column, value in zip(schema.columns, row, strict=True)
    )


def _told(known: Fitted, row: Array) -> Array:
    return known.shares(row, int(np.argmax(known.values(row)))).contributions


async def _asked(row: Array, near: Array, focus: Focus, method: Method, ask: Ask) -> Array:
    async def values(asked: Array) -> Array:
        return focus.of(await ask(asked))

    if method == "exact":
        return (await answered(shapley.of_subsets(row, near), values)).contributions
    sample = shapley.Sample(len(row))
    steps = shapley.sampling(row, near, sample, _SEED)
    asked = next(steps)
    for _ in range(_STEPS):
        asked = steps.send(await values(asked))
    return sample.shares().contributions
