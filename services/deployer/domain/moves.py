"""How an endpoint moves on: another champion, a version more or less beside it, other shares."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from contracts import COHORTS, Grant, ModelRegistered, MonitorSettings, Routing, Variant
from services.kit.errors import Conflict, Invalid

from .beside import misfit_of, role_of
from .deployment import CHAMPION, Deployment
from .endpoint import Endpoint, streams
from .shares import resized, share_of


def next_endpoint(
    deployment: Deployment, registration: ModelRegistered, grant: Grant, before: Endpoint | None, now: datetime
) -> Endpoint:
    """The endpoint with this deployment as its champion; the revision only grows.

    An experiment ends with the champion that it was about; shadows and the fallback stay where they fit the new one.
    """
    streaming, topics = deployment.streaming or streams(before), before.topics if before else "closed"
    variant = Variant(
        name=CHAMPION, model=deployment.model, version=deployment.version, digest=deployment.digest,
        format=registration.format, model_schema=registration.model_schema,
        baseline_digest=registration.baseline_digest, grant=grant,
    )  # fmt: skip
    return Endpoint(
        endpoint=deployment.endpoint, unit=deployment.unit, use_case=deployment.use_case,
        revision=before.revision + 1 if before else 1, state="serving",
        streaming=streaming, variant=variant, deployment_id=deployment.id, changed_at=now,
        monitor=_watched(registration, before),
        beside=_staying(before, variant) if before and before.state == "serving" else (),
        topics="asked" if streaming and topics == "closed" else topics,
    )  # fmt: skip


def _watched(registration: ModelRegistered, before: Endpoint | None) -> MonitorSettings:
    """As its package says; the share of payloads in the log is the endpoint's own."""
    settings = registration.monitor or MonitorSettings()
    return settings.model_copy(update={"payload_sample": before.monitor.payload_sample}) if before else settings


def joined(
    endpoint: Endpoint, deployment: Deployment, registration: ModelRegistered, grant: Grant, now: datetime
) -> Endpoint:
    """The endpoint with this deployment beside its champion, as its strategy says. Raises Invalid for its weight."""
    variant = Variant(
        name=deployment.variant, model=deployment.model, version=deployment.version, digest=deployment.digest,
        format=registration.format, model_schema=registration.model_schema, weight=0.0,
        baseline_digest=registration.baseline_digest, grant=grant, role=role_of(deployment.strategy),
    )  # fmt: skip
    routing = endpoint.routing
    if routing is None and deployment.strategy in ("canary", "ab", "bandit"):
        routing = Routing(strategy=deployment.strategy, salt=str(deployment.id), since=now)
    after = replace(endpoint, beside=(*endpoint.beside, variant), routing=routing)
    if deployment.weight is not None:
        after = _given(after, variant.name, deployment.weight)
    return _next(after, now)


def check_weight(endpoint: Endpoint, weight: float) -> None:
    """Raises Invalid naming `weight` where a further version cannot be given so much."""
    resized((), [cohorts for other in endpoint.beside for cohorts in other.cohorts], share_of(weight))


def weighted(endpoint: Endpoint, name: str, weight: float, now: datetime) -> Endpoint:
    """The endpoint with another share for one of its versions. Raises NotFound, Conflict or Invalid."""
    if endpoint.named(name).role != "live" or endpoint.routing is None or endpoint.routing.strategy == "bandit":
        raise Conflict(f"variant: {name} has no share that could be set")
    return _next(_given(endpoint, name, weight), now)


def promoted(endpoint: Endpoint, name: str, now: datetime) -> Endpoint:
    """The endpoint with one of its versions as its champion. Raises NotFound."""
    variant = endpoint.named(name)
    champion = variant.model_copy(update={"name": CHAMPION, "role": "live", "weight": 1.0, "cohorts": ()})
    after = replace(
        endpoint, variant=champion, deployment_id=champion.grant.statement.deployment_id,
        beside=_staying(endpoint, champion), routing=None,
    )  # fmt: skip
    return _next(after, now)


def without(endpoint: Endpoint, names: Collection[str]) -> Endpoint:
    """The same revision without some of what stands beside its champion, who serves in their place."""
    beside = tuple(variant for variant in endpoint.beside if variant.name not in names)
    routing = endpoint.routing if any(variant.role == "live" for variant in beside) else None
    return _shared(replace(endpoint, beside=beside, routing=routing))


def taken_away(endpoint: Endpoint, names: Collection[str], now: datetime) -> Endpoint:
    """The endpoint as it goes on without some of its versions."""
    return _next(without(endpoint, names), now)


def to_promote(endpoint: Endpoint, asked: str | None) -> str:
    """Whom a promotion is about. Raises NotFound, Conflict where nobody, Invalid where not one alone is meant."""
    if asked is not None:
        return endpoint.named(asked).name
    found = [variant.name for variant in endpoint.beside if variant.role != "fallback"]
    if not found:
        raise Conflict(f"{endpoint.endpoint} has nothing beside its champion that could be promoted")
    if len(found) > 1:
        raise Invalid(f"variant: say which of {', '.join(found)} shall be the champion", "variant")
    return found[0]


def to_take_away(endpoint: Endpoint, asked: str | None) -> tuple[str, ...]:
    """What a rollback takes away beside the champion: what was named, else a running experiment; nothing where the
    champion itself goes back. Raises NotFound."""
    if asked == CHAMPION:
        return ()
    if asked is not None:
        return (endpoint.named(asked).name,)
    return tuple(variant.name for variant in endpoint.beside if variant.role == "live")


def _staying(before: Endpoint, champion: Variant) -> tuple[Variant, ...]:
    return tuple(
        one
        for one in before.beside
        if one.role != "live" and one.version != champion.version
        and misfit_of(one.model_schema, champion.model_schema, one.role) is None
    )  # fmt: skip


def _given(endpoint: Endpoint, name: str, weight: float) -> Endpoint:
    mine = endpoint.named(name)
    others = [cohorts for other in endpoint.beside if other is not mine for cohorts in other.cohorts]
    own = mine.model_copy(update={"cohorts": resized(mine.cohorts, others, share_of(weight))})
    return replace(endpoint, beside=tuple(own if one is mine else one for one in endpoint.beside))


def _next(endpoint: Endpoint, now: datetime) -> Endpoint:
    return replace(_shared(endpoint), revision=endpoint.revision + 1, changed_at=now)


def _shared(endpoint: Endpoint) -> Endpoint:
    """The weights as the cohorts have them; the arms of a bandit begin alike."""
    live = [one for one in endpoint.variants if one.role == "live"]
    if endpoint.routing and endpoint.routing.strategy == "bandit":
        weights = {one.name: 1 / len(live) for one in live}
    else:
        counts = {one.name: sum(c.last - c.first + 1 for c in one.cohorts) for one in endpoint.beside}
        weights = {name: count / COHORTS for name, count in counts.items()}
        weights[CHAMPION] = (COHORTS - sum(counts.values())) / COHORTS
    champion, *beside = (one.model_copy(update={"weight": weights[one.name]}) if one.role == "live" else one
                         for one in endpoint.variants)  # fmt: skip
    return replace(endpoint, variant=champion, beside=tuple(beside))
