"""What may stand beside a champion: canaries, A/B variants, arms of a bandit, shadows and a fallback."""

from collections.abc import Mapping, Sequence

from contracts import ModelSchema, Role, Strategy, TensorSpec
from services.kit.errors import Conflict, Invalid

from .deployment import CHAMPION
from .endpoint import Endpoint
from .shares import share_of

_MOST = 8
"""Versions that an endpoint holds: each is loaded by every worker."""
_ROLES: Mapping[Strategy, Role] = {
    "direct": "live", "canary": "live", "ab": "live", "bandit": "live", "shadow": "shadow", "fallback": "fallback",
}  # fmt: skip
_NAMES: Mapping[Strategy, str] = {
    "direct": CHAMPION, "canary": "canary", "ab": "version-{}", "bandit": "version-{}", "shadow": "challenger",
    "fallback": "fallback",
}  # fmt: skip
_SHARING: frozenset[Strategy] = frozenset({"canary", "ab"})


def role_of(strategy: Strategy) -> Role:
    """What a version does that came by this strategy."""
    return _ROLES[strategy]


def name_of(strategy: Strategy, variant: str | None, version: int) -> str:
    """What a version is called in its endpoint: as was asked, or after its strategy."""
    return variant or _NAMES[strategy].format(version)


def check_strategy(strategy: Strategy, variant: str | None, weight: float | None) -> None:
    """Raises Invalid for members that do not belong to the strategy, or lack."""
    if strategy == "direct" and variant not in (None, CHAMPION):
        raise Invalid(f"variant: a direct deployment is the {CHAMPION}", "variant")
    if strategy != "direct" and variant == CHAMPION:
        raise Invalid(
            f"variant: the {CHAMPION} is what was deployed directly or promoted; take another name", "variant"
        )
    if strategy in _SHARING and weight is None:
        raise Invalid(f"weight: strategy {strategy} takes the share of the requests, between 0 and 1", "weight")
    if weight is not None and strategy in _SHARING:
        share_of(weight)
    if strategy not in _SHARING and weight is not None:
        raise Invalid(f"weight: strategy {strategy} takes none", "weight")


def check_beside(
    endpoint: Endpoint | None, strategy: Strategy, name: str, version: int, schema: ModelSchema, *, streaming: bool
) -> Endpoint:
    """The endpoint that a version may join. Raises Conflict or Invalid naming what does not go together."""
    if endpoint is None or endpoint.state != "serving":
        raise Conflict(
            f"strategy: a {strategy} stands beside a champion, and this endpoint serves none: deploy directly"
        )
    if streaming and not endpoint.streaming:
        raise Invalid("streaming: whether an endpoint streams goes with its champion", "streaming")
    if any(one.name == name for one in endpoint.variants):
        raise Conflict(f"variant: {endpoint.endpoint} has one named {name} already")
    if any(one.version == version for one in endpoint.variants):
        raise Conflict(
            f"version: {endpoint.endpoint} serves a version {version} already, and reaches it by that number"
        )
    if len(endpoint.variants) >= _MOST:
        raise Conflict(f"variant: {endpoint.endpoint} holds {_MOST} versions already")
    if strategy == "fallback" and any(one.role == "fallback" for one in endpoint.beside):
        raise Conflict(f"strategy: {endpoint.endpoint} has a fallback already")
    if _ROLES[strategy] == "live" and endpoint.routing and endpoint.routing.strategy != strategy:
        raise Conflict(
            f"strategy: {endpoint.endpoint} shares requests out by {endpoint.routing.strategy}: end that first"
        )
    if misfit := misfit_of(schema, endpoint.variant.model_schema, _ROLES[strategy]):
        raise Invalid(f"version: {misfit}, so that it cannot stand beside the champion", "version")
    return endpoint


def misfit_of(one: ModelSchema, champion: ModelSchema, role: Role) -> str | None:
    """Why a request for the champion would not fit a version, or its answer the caller; None where both do.

    What a shadow answers nobody hears, so it may be of another shape.
    """
    if not _takes(one.inputs, champion.inputs):
        return "it has other inputs than the champion"
    if [column.name for column in one.columns] != [column.name for column in champion.columns]:
        return "it has other columns than the champion"
    if role != "shadow" and (one.outputs, one.prediction) != (champion.outputs, champion.prediction):
        return "it has other outputs than the champion"
    return None


def _takes(inputs: Sequence[TensorSpec], asked: Sequence[TensorSpec]) -> bool:
    """Whether what fits `asked` fits `inputs`: the same, or FP64 where that says FP32, of which it holds each value."""
    return len(inputs) == len(asked) and all(
        one == other or (other.datatype == "FP32" and one == other.model_copy(update={"datatype": "FP64"}))
        for one, other in zip(inputs, asked, strict=True)
    )
