"""Records of one micro-batch shared out among an endpoint's versions: each by its entity, and what fails to another."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from services.kit.errors import Busy, Refusal, Unavailable

from ..endpoints import Endpoint
from ..served import Served
from ..v2 import BadInput
from .items import Item
from .scoring import Scoring

ScoringOf = Callable[[Served], Scoring]


async def score(endpoint: Endpoint, items: Sequence[Item], scoring_of: ScoringOf) -> None:
    """Every item by the version that is chosen for it, else by who stands in. Raises Busy or Unavailable where nobody
    can answer: then ask again."""
    for served, mine in _shared(endpoint, items):
        left = await _by(served, mine, scoring_of(served), endpoint)
        for other in endpoint.instead_of(served):
            if left:
                left = await _instead(served, left, scoring_of(other), endpoint)
        if left and any(isinstance(item.refusal, (Busy, Unavailable)) for item in left):
            raise Unavailable("no version of this endpoint answers now")


def _shared(endpoint: Endpoint, items: Iterable[Item]) -> list[tuple[Served, list[Item]]]:
    groups: dict[int, list[Item]] = {}
    for item in items:
        version = endpoint.champion.origin.version
        if endpoint.router and item.envelope:
            entity, story = _key(item.body)
            version = endpoint.router.version(entity, story or item.envelope.correlation_id, item.envelope.source)
        groups.setdefault(version, []).append(item)
    return [(endpoint.by_version[version], mine) for version, mine in groups.items()]


def _key(body: bytes) -> tuple[str | None, str | None]:
    """Entity and correlation id of a request. What is wrong with one is found where it is read."""
    try:
        parameters: Any = orjson.loads(body)["parameters"]
        entity, story = parameters.get("entity"), parameters.get("correlation_id")
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return None, None
    return (entity if isinstance(entity, str) else None), (story if isinstance(story, str) else None)


async def _by(served: Served, items: list[Item], scoring: Scoring, endpoint: Endpoint) -> list[Item]:
    """Answers what was not answered through no fault of the input."""
    for item in items:
        item.scoring = scoring
    try:
        await scoring.score(items)
    except (Busy, Unavailable) as away:
        for item in items:
            item.answer, item.refusal = None, away
        return items
    alike = served.reading is endpoint.champion.reading
    return [item for item in items if item.refusal and not (alike and isinstance(item.refusal, BadInput))]


async def _instead(failed: Served, items: list[Item], scoring: Scoring, endpoint: Endpoint) -> list[Item]:
    """The same again by another version; where it fails too, the first refusal stands."""
    first: list[Refusal | None] = [item.refusal for item in items]
    for item in items:
        item.refusal = None
    left = await _by(scoring.served, items, scoring, endpoint)
    for item, refusal in zip(items, first, strict=True):
        if item.answer is not None:
            item.instead_of = failed.origin.variant
            failed.counts.failed += 1
        elif not isinstance(refusal, BadInput):
            item.refusal = refusal
    return left
