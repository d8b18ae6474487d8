"""What cannot be handled goes to `dlq.<topic>` with the reason, in Kafka Connect's header names."""

from collections.abc import Iterable

from contracts import Service

FOR = "fairlead-for"
"""A replayed record names the one service that it is for; the others skip it."""
FROM = "fairlead-service"
_OWN = ("__connect.errors.", FROM, FOR)

Raw = Iterable[tuple[str, bytes]]


def topic_of(source: str) -> str:
    """The dead-letter topic of a topic."""
    return f"dlq.{source}"


def headers(
    raw: Raw, service: Service, topic: str, partition: int, offset: int, error: BaseException | str
) -> list[tuple[str, bytes]]:
    """The source's headers and why it ended here."""
    kind = type(error).__name__ if isinstance(error, BaseException) else "Invalid"
    reason = {
        "__connect.errors.topic": topic,
        "__connect.errors.partition": str(partition),
        "__connect.errors.offset": str(offset),
        "__connect.errors.exception.class.name": kind,
        "__connect.errors.exception.message": str(error)[:1000],
        FROM: service,
    }
    kept = [(name, value) for name, value in raw if not name.startswith(_OWN)]
    return kept + [(name, value.encode()) for name, value in reason.items()]


def source_headers(raw: Raw, service: str) -> list[tuple[str, bytes]]:
    """The headers to replay a dead letter with, addressed to the service that gave it up."""
    return [(name, value) for name, value in raw if not name.startswith(_OWN)] + [(FOR, service.encode())]


def addressed_to_another(raw: Raw, service: Service) -> bool:
    """Whether this record is a replay for somebody else."""
    return any(name == FOR and value != service.encode() for name, value in raw)
