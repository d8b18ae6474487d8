"""What models say of the held-out rows; nothing of it is believed before it was looked at."""

import asyncio
import json
from pathlib import Path

import numpy as np

from contracts import ModelRegistered, ModelSchema
from services.kit.models.sandboxed import SandboxedModel, asked_of
from services.kit.models.wire import Tensors
from services.kit.models.worker import Opening

from .domain import Answers
from .packages import Package

_ROWS_AT_ONCE = 50_000
_MOST_ANSWER_BYTES = 64 * 1024 * 1024


class CannotTrain(Exception):
    """The job ends without a candidate; the reason is for people."""


def opening(model: ModelRegistered, package: Package, path: Path) -> Opening:
    return Opening(model.format, str(path), None, package.model, asked_of(model.model_schema))


async def asked(sandboxed: SandboxedModel, schema: ModelSchema, inputs: Path, params: Path) -> Answers:
    """The rows in pieces that a sandbox takes, each with the params that its request set. Raises CannotTrain where the
    model leaves an output out."""
    parts, places = list[Answers](), list[np.ndarray]()
    held = await asyncio.to_thread(_held, inputs)
    for set_so, of in _sets(params, len(next(iter(held.values())))):
        for at in range(0, len(of), _ROWS_AT_ONCE):
            some = of[at : at + _ROWS_AT_ONCE]
            said = await sandboxed.predict({name: values[some] for name, values in held.items()}, set_so)
            parts.append(_answers_in(said, schema, len(some)))
            places.append(some)
    order = np.argsort(np.concatenate(places))
    scores = [part.scores for part in parts if part.scores is not None]
    return Answers(
        np.concatenate([part.predictions for part in parts])[order], np.concatenate(scores)[order] if scores else None
    )


def refuse_unknown(schema: ModelSchema, params: Path, what: str) -> None:
    """Raises CannotTrain for a model that does not take what the requests of its rows set."""
    sets = json.loads(params.read_bytes())["sets"] if params.exists() else []
    said = {name for text in sets if text for name in json.loads(text)}
    if unknown := said - {spec.name for spec in schema.params}:
        raise CannotTrain(f"rows were decided with param {min(unknown)[:100]}, which {what} does not take")


def _sets(params: Path, rows: int) -> list[tuple[bytes, np.ndarray]]:
    """What was set, and of which rows."""
    if not params.exists():
        return [(b"", np.arange(rows))]
    said = json.loads(params.read_bytes())
    of = np.array(said["of"])
    return [(text.encode(), np.flatnonzero(of == place)) for place, text in enumerate(said["sets"])]


def _held(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


def _answers_in(said: Tensors, schema: ModelSchema, rows: int) -> Answers:
    wanted = [schema.prediction, *([schema.score] if schema.score else [])]
    if any(name not in said or said[name].ndim == 0 or len(said[name]) != rows for name in wanted):
        raise CannotTrain("the model did not answer every row")
    decided = said[schema.prediction].reshape(-1)
    texts = decided.dtype == object
    predictions = np.array([each.decode() for each in decided], np.str_) if texts else decided.astype(np.float64)
    return Answers(predictions, said[schema.score].astype(np.float64) if schema.score else None)


def read_answers(said: bytes, what: str) -> Answers:
    """What a model answered; nothing of it is believed. Raises CannotTrain."""
    if len(said) > _MOST_ANSWER_BYTES:
        raise CannotTrain(f"{what} answered {len(said)} bytes")
    try:
        told = json.loads(said)
        predictions, scores = np.array(told["predictions"]), told.get("scores")
        predictions = predictions if predictions.dtype.kind == "U" else predictions.astype(np.float64)
        return Answers(predictions, None if scores is None else np.array(scores, np.float64))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CannotTrain(f"{what} gave no readable answers: {error}") from error
