"""Who may do what on which topic: the contracts' SAYS and HEARS, as Kafka's access rights."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from contracts import EVENTS, HEARS, SAYS, SERVICES, InferenceImported, OutcomeReported, Service, Topic

DEAD_LETTERS_KEPT = timedelta(days=30)
OUTSIDERS = ("operator", "application", "other-unit")
PRINCIPALS: tuple[str, ...] = (*SERVICES, *OUTSIDERS)

Kind = Literal["topic", "group", "transactional_id", "cluster"]
Operation = Literal[
    "read", "write", "create", "delete", "describe", "alter", "describe_configs", "alter_configs"
]  # fmt: skip


@dataclass(frozen=True)
class Right:
    """One principal may do one thing with one resource, or with all whose names begin so."""

    principal: str
    operation: Operation
    kind: Kind
    name: str
    prefix: bool = False


def _topic(principal: str, operation: Operation, topic: Topic) -> Right:
    """On a topic of a contract; on all of its endpoints' topics where there is one for each."""
    name = f"{topic.name}." if topic.per_endpoint else topic.name
    return Right(principal, operation, "topic", name, topic.per_endpoint)


def service_rights(service: Service) -> Iterator[Right]:
    """Write what the service says, read what it hears, and what every service needs to do that."""
    for event in SAYS[service]:
        yield _topic(service, "write", event.topic)
    for event in HEARS[service]:
        yield _topic(service, "read", event.topic)
    yield Right(service, "write", "topic", "dlq.", prefix=True)
    yield Right(service, "read", "group", service, prefix=True)
    yield Right(service, "write", "transactional_id", service, prefix=True)
    yield Right(service, "describe", "transactional_id", service, prefix=True)


def console_rights() -> Iterator[Right]:
    """It shows every topic and group, and replays dead letters into the topics that they came from."""
    yield from _observer("console")
    for topic in {event.topic for event in EVENTS}:
        yield _topic("console", "write", topic)


def deployer_rights() -> Iterator[Right]:
    """It makes the topics of streaming endpoints and lets the applications of their use cases in.

    Kafka cannot limit which rights an administrator of rights may give: the deployer's principal is a trusted one.
    """
    operations: tuple[Operation, ...] = ("create", "delete", "describe", "describe_configs", "alter_configs")
    for prefix in ("inference.requested.", "inference.completed.", "dlq.inference.requested."):
        for operation in operations:
            yield Right("deployer", operation, "topic", prefix, prefix=True)
    yield Right("deployer", "alter", "cluster", "kafka-cluster")
    yield Right("deployer", "describe", "cluster", "kafka-cluster")


def outsider_rights(principal: str) -> Iterator[Right]:
    """Outsiders write the open topics; what an endpoint answers is opened to them by the deployer."""
    withdrawn = set(withdrawn_rights())
    for event in EVENTS:
        right = _topic(principal, "write", event.topic)
        if right in withdrawn:
            continue
        if event.topic.open and (not event.topic.per_endpoint or principal == "operator"):
            yield right
    yield Right(principal, "read", "group", principal, prefix=True)
    yield Right(principal, "write", "transactional_id", principal, prefix=True)
    yield Right(principal, "describe", "transactional_id", principal, prefix=True)


def withdrawn_rights() -> Iterator[Right]:
    """What another business unit's applications may not do, nor keep from an earlier release.

    One topic of outcomes serves all, and one of imported inferences, and Kafka tells a reader no principal: whoever may
    write them could change what another unit knows as the truth, or as its own decisions. They report outcomes over
    HTTP, where the token says who they are.
    """
    yield _topic("other-unit", "write", OutcomeReported.topic)
    yield _topic("other-unit", "write", InferenceImported.topic)


def operator_rights() -> Iterator[Right]:
    """The operator may read every topic, in any group."""
    yield from _observer("operator")
    yield Right("operator", "read", "group", "*")


def endpoint_rights(principal: str, endpoint: str) -> list[Right]:
    """What an application needs to stream through an endpoint."""
    requested = [e.topic for e in EVENTS if e.topic.per_endpoint and e.topic.open]
    completed = [e.topic for e in EVENTS if e.topic.per_endpoint and not e.topic.open]
    return [
        *(Right(principal, "write", "topic", topic.of(endpoint)) for topic in requested),
        *(Right(principal, "read", "topic", topic.of(endpoint)) for topic in completed),
    ]


def all_rights() -> list[Right]:
    """Every right that stands from the start."""
    rights = [
        *(right for service in SERVICES for right in service_rights(service)),
        *console_rights(),
        *deployer_rights(),
        *(right for outsider in OUTSIDERS for right in outsider_rights(outsider)),
        *operator_rights(),
    ]
    return list(dict.fromkeys(rights))


def _observer(principal: str) -> Iterator[Right]:
    yield Right(principal, "read", "topic", "*")
    yield Right(principal, "describe_configs", "topic", "*")
    yield Right(principal, "describe", "group", "*")
    yield Right(principal, "describe", "cluster", "kafka-cluster")
    yield Right(principal, "describe_configs", "cluster", "kafka-cluster")
