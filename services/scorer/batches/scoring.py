"""A chunk's columns through the model: the rows that it takes, and why it does not take the others."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial

import numpy as np

from contracts import ModelSchema
from services.kit.errors import Busy, Refusal, Unavailable
from services.kit.models.feeding import matrix_of

from ..lane import Lane
from ..runtimes import Arrays
from ..served import Served
from ..v2 import Codec, Request
from .domain import Scored
from .sheet import Columns, optional, tensor

_CALL_ROWS = 4_096
"""Of one call of the model at most: sandboxed ones have a deadline, and more rows at a time are no faster."""
_PATIENCE_S = 30.0
"""How long a call waits for the model, before other jobs get their turn."""
Part = tuple[range, Arrays]


async def score(columns: Columns, served: Served, refused: Mapping[int, str]) -> Scored:
    """Every row through the model but those `refused` already, by position. Raises Unavailable where the model is away
    or busy for long; a row's own refusal is its own error."""
    if not refused:
        return await _scored(columns, served)
    places = np.delete(np.arange(len(next(iter(columns.values())))), list(refused))
    if not len(places):
        return Scored({}, places, dict(refused))
    scored = await _scored({name: values[places] for name, values in columns.items()}, served)
    errors = {int(places[at]): why for at, why in scored.errors.items()}
    return Scored(scored.outputs, places[scored.good], {**refused, **errors})


async def _scored(columns: Columns, served: Served) -> Scored:
    errors: dict[int, str] = {}
    kept = await _in_calls(range(len(next(iter(columns.values())))), columns, served, errors)
    good = np.concatenate([np.arange(each.start, each.stop) for each, _ in kept]) if kept else np.arange(0)
    outputs = {name: np.concatenate([part[name] for _, part in kept]) for name in kept[0][1]} if kept else {}
    return Scored(outputs, good, errors)


async def _in_calls(rows: range, columns: Columns, served: Served, errors: dict[int, str]) -> list[Part]:
    """Of as many rows each as the model is known to answer in time."""
    kept: list[Part] = []
    while rows:
        most = min(_CALL_ROWS, served.lane.call_rows)
        kept += await _call(rows[:most], columns, served, errors)
        rows = rows[most:]
    return kept


async def _call(rows: range, columns: Columns, served: Served, errors: dict[int, str]) -> list[Part]:
    """All at once; where that is refused, halves, down to the single row that is wrong."""
    try:
        part = {name: values[rows.start : rows.stop] for name, values in columns.items()}
        inputs = arrays(part, served.schema, served.codec)
        return [(rows, await _patiently(served.lane, inputs, len(rows)))]
    except Unavailable:
        raise
    except Refusal as refusal:
        if len(rows) == 1:
            # The result says which row of the file it is; here it was alone, and number 0.
            errors[rows.start] = refusal.message.replace(", row 0 ", " ")[:300]
            return []
    half = partial(_in_calls, columns=columns, served=served, errors=errors)
    middle = len(rows) // 2
    return await half(rows[:middle]) + await half(rows[middle:])


async def _patiently(lane: Lane, inputs: Arrays, rows: int) -> Arrays:
    """The model's outputs once it has time: batches come after those who wait, and what it has answered of a chunk is
    kept meanwhile. Raises Unavailable when it has none."""
    ends = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await lane.run(inputs, rows)
        except (Busy, Unavailable) as error:
            if time.monotonic() > ends:
                raise Unavailable(f"the model does not answer: {error.message}") from None
            await asyncio.sleep(0.2)


def arrays(columns: Columns, schema: ModelSchema, codec: Codec) -> Arrays:
    """The model's inputs of these columns; an optional one that is not there is missing in every row. Raises a Refusal
    that names the column."""
    if matrix_of(schema):
        return {schema.inputs[0].name: codec.matrix(columns)}
    may_miss, nothing = optional(schema), np.full(len(next(iter(columns.values()))), np.nan)
    return {
        spec.name: tensor(spec, columns.get(spec.name, nothing), nullable=spec.name in may_miss)
        for spec in schema.inputs
    }


def encode(columns: Columns, scored: Scored, served: Served, inference_id: str) -> tuple[bytes, bytes]:
    """The good rows as a V2 request and response, for the log."""
    good = {name: values[scored.good] for name, values in columns.items()}
    inputs = arrays(good, served.schema, served.codec)
    described = served.codec.describe(inputs, None, {})
    request = Request(inputs, len(scored.good), described)
    return described, served.codec.encode(request, scored.outputs, inference_id).logged
