"""What cannot be handled goes to `dlq.<topic>` with the reason, in Kafka Connect's header names."""

from collections.abc import Iterable

from contracts import Service

FOR = "fairlead-for"
"""A replayed record names the one service that it is for; the others skip it."""
FROM = "fairlead-service"
LEFT_OUT = "fairlead-value-left-out"
"""The size of a value that was too large to be kept; it lies at the source's offset as long as that is retained."""
_OWN = ("__connect.errors.", FROM, FOR, LEFT_OUT)

LARGEST_VALUE = 1024 * 1024
LARGEST_LETTER = 2 * 1024 * 1024
"""What a topic of dead letters takes: more than its source, since the reason comes on top."""
_HEADERS, _HEADER = 64, 8 * 1024

Raw = Iterable[tuple[str, bytes]]


def topic_of(source: str) -> str:
    """The dead-letter topic of a topic."""
    return f"dlq.{source}"


def letter(
    value: bytes | None, raw: Raw, service: Service, topic: str, partition: int, offset: int,
    error: BaseException | str,
) -> tuple[bytes | None, list[tuple[str, bytes]]]:  # fmt: skip
    """The value and headers of a dead letter: the source's, and why it ended here.

    What is too large to be kept beside its reason (a producer may compress) stays where it came from.
    """
    kind = type(error).__name__ if isinstance(error, BaseException) else "Invalid"
    reason = {
        "__connect.errors.topic": topic,
        "__connect.errors.partition": str(partition),
        "__connect.errors.offset": str(offset),
        "__connect.errors.exception.class.name": kind,
        "__connect.errors.exception.message": str(error)[:1000],
        FROM: service,
    }
    if value is not None and len(value) > LARGEST_VALUE:
        reason[LEFT_OUT] = str(len(value))
        value = None
    kept = [(name, content) for name, content in raw if not name.startswith(_OWN) and len(content or b"") <= _HEADER]
    return value, kept[:_HEADERS] + [(name, text.encode(errors="replace")) for name, text in reason.items()]


def source_headers(raw: Raw, service: str) -> list[tuple[str, bytes]]:
    """The headers to replay a dead letter with, addressed to the service that gave it up."""
    return [(name, value) for name, value in raw if not name.startswith(_OWN)] + [(FOR, service.encode())]


def addressed_to_another(raw: Raw, service: Service) -> bool:
    """Whether this record is a replay for somebody else."""
    name = addressee(raw)
    return name is not None and name != service.encode()


def addressee(raw: Raw) -> bytes | None:
    """Whom a replayed dead letter is for; None for all other records."""
    return next((value or b"" for name, value in raw if name == FOR), None)
