"""What every event is: a frozen fact with a topic, a key and a CloudEvents envelope."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""A model, endpoint, use case or business unit (ADR 19 of the shared decisions: Kafka folds `.` and `_`)."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""The address of immutable bytes in the object store."""

Version = Annotated[int, Field(ge=1)]

Number = Annotated[float, Field(strict=True)]
"""A number, and no text of digits: where there may be a text instead, `01` is one."""

Service = Literal["catalog", "deployer", "scorer", "monitor", "governor", "retrainer", "recorder", "console"]
SERVICES: tuple[Service, ...] = (
    "catalog", "deployer", "scorer", "monitor", "governor", "retrainer", "recorder", "console",
)  # fmt: skip


@dataclass(frozen=True)
class Topic:
    """A Kafka topic: who alone may speak on it and how long it remembers."""

    name: str
    speaker: Service | Literal["every"]
    keep: timedelta | None = None
    """None: for ever."""
    compacted: bool = False
    open: bool = False
    """Outsiders may write it, under a principal of their own."""
    partitions: int = 2
    per_endpoint: bool = False
    """The name is a prefix; the deployer makes one topic for each streaming endpoint."""

    def of(self, endpoint: str) -> str:
        """The topic of one endpoint, for a topic that exists per endpoint."""
        return f"{self.name}.{endpoint}"


class Value(BaseModel):
    """A part of an event. Consumers ignore fields that they do not know; published schemas are closed."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, allow_inf_nan=False)


class Event(Value):
    """A fact. Its identity, time, unit, actor and correlation travel in the envelope."""

    topic: ClassVar[Topic]
    major: ClassVar[int] = 1
    key_field: ClassVar[str]

    @property
    def key(self) -> str:
        """The Kafka key and CloudEvents subject: events with one key keep their order."""
        return str(getattr(self, self.key_field))

    @classmethod
    def type(cls) -> str:
        return cls.topic.name

    @classmethod
    def schema_id(cls) -> str:
        """The `ce_dataschema` of this event: type and major version."""
        return f"urn:fairlead:schema:{cls.type()}:{cls.major}"

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The published schema (JSON Schema 2020-12), closed so that a typo in a producer shows."""
        schema = cls.model_json_schema(by_alias=True, mode="serialization")
        _close(schema)
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": cls.schema_id(), **schema}

    def to_json(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        return cls.model_validate_json(data)


@dataclass(frozen=True)
class Envelope:
    """CloudEvents 1.0 context attributes of one event, with Fairlead's extensions."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    dataschema: str
    unit: str
    actor: str
    correlation_id: str
    traceparent: str


def _close(node: object) -> None:
    """Forbid unknown members of every object with declared ones, in place."""
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            node.setdefault("additionalProperties", False)
        for child in node.values():
            _close(child)
    elif isinstance(node, list):
        for child in node:
            _close(child)


def absent(value: object) -> bool:
    """For members that are left out where there is nothing to say."""
    return value is None


def by_type(events: Iterable[type[Event]]) -> dict[str, type[Event]]:
    """Index events by their CloudEvents type."""
    return {event.type(): event for event in events}
