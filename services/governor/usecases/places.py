"""Places in lists that are ordered by moment and id, as opaque cursors."""

from datetime import UTC, datetime
from uuid import UUID

from services.kit.db import as_cursor, from_cursor
from services.kit.errors import Invalid

_FOREIGN = "this cursor was not made by this list"


def place(moment: datetime, id: UUID) -> str:
    return as_cursor(moment, id)


def moment_and_id(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Raises Invalid for a cursor that was not made here."""
    values = from_cursor(cursor, 2)
    if values is None:
        return None
    try:
        moment, id = datetime.fromisoformat(values[0]), UUID(values[1])
        if moment.tzinfo is None:
            raise ValueError("a moment without a zone")
        # A zone can carry a moment out of the calendar: only what is a moment in UTC too can be looked for.
        return moment.astimezone(UTC), id
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise Invalid(_FOREIGN, "cursor") from None


def position(cursor: str | None) -> int | None:
    """Raises Invalid for a cursor that was not made here."""
    values = from_cursor(cursor, 1)
    if values is not None and (type(values[0]) is not int or abs(values[0]) >= 2**63):
        raise Invalid(_FOREIGN, "cursor")
    return values[0] if values else None
