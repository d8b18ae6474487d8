"""Inferences for tests of what counts them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from services.kit.logged import Head, Origin
from services.kit.payloads import Payload
from services.kit.stream import Record
from services.monitor.domain.service.slots import Counts, Place, by, by_minute
from services.monitor.usecases.summary import Inference


def inference(payload: Payload, at_s: float, latency_ms: float, variant: str = "champion") -> Inference:
    """One that was asked for at a moment."""
    origin = Origin("credit", "retail", "benefits", "census-employment", 1, variant, "rest", "application")
    at = datetime.fromtimestamp(at_s, UTC)
    head = Head(f"of-{at_s}", origin, None, None, at, at_s, latency_ms, payload.rows)
    return Inference(Record(0, 0, None, None, ()), head, payload)


class Answered(NamedTuple):
    """One inference as far as minutes are counted: where and when it came, and how long it took."""

    place: Place
    at_s: float
    rows: int
    latency_ms: float


def counted(answered: Iterable[Answered]) -> dict[tuple[Place, float], Counts]:
    """Such inferences by place and minute."""
    groups: dict[Place, list[Answered]] = {}
    for one in answered:
        groups.setdefault(one.place, []).append(one)
    return dict(by(pair for place, members in groups.items() for pair in _of(place, members).items()))


def _of(place: Place, members: list[Answered]) -> dict[tuple[Place, float], Counts]:
    at_s, rows, latency_ms = (np.array(each) for each in list(zip(*members, strict=True))[1:])
    return by_minute(place, at_s, rows, latency_ms)
