"""Places in lists that are ordered by moment and id, or by position, as opaque cursors."""

from datetime import datetime
from uuid import UUID

from services.kit import inputs


def place(moment: datetime, id: UUID) -> str:
    """The cursor behind this item."""
    return inputs.as_cursor(moment, id)


def moment_and_id(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Raises Invalid for a cursor that was not made here."""
    return inputs.from_cursor(cursor, inputs.moment, inputs.uuid)


def position(cursor: str | None) -> int | None:
    """Raises Invalid for a cursor that was not made here."""
    values = inputs.from_cursor(cursor, inputs.position)
    return values[0] if values else None
