"""Places in lists that are ordered by moment and id, or by position, as opaque cursors."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from services.kit import inputs


def place(moment: datetime, id: UUID) -> str:
    """The cursor behind this item."""
    return inputs.as_cursor(moment, id)


def moment_and_id(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Raises Invalid for a cursor that was not made here."""
    return inputs.from_cursor(cursor, inputs.moment, inputs.uuid)


@dataclass(frozen=True)
class Told:
    """Up to where a model's history was told: its versions, the decisions about them, the facts of the ledger."""

    version: int
    asked_at: datetime
    approval: UUID
    position: int

    @classmethod
    def of(cls, cursor: str | None) -> "Told":
        """Nothing without a cursor. Raises Invalid for one that was not made here."""
        values = inputs.from_cursor(cursor, inputs.version, inputs.moment, inputs.uuid, inputs.position)
        return cls(*values) if values else cls(0, datetime.fromtimestamp(0, UTC), UUID(int=0), 0)

    @property
    def cursor(self) -> str:
        return inputs.as_cursor(self.version, self.asked_at, self.approval, self.position)


def position(cursor: str | None) -> int | None:
    """Raises Invalid for a cursor that was not made here."""
    values = inputs.from_cursor(cursor, inputs.position)
    return values[0] if values else None
