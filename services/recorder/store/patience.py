"""How long what somebody asks for may take."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from services.kit.errors import Invalid

PATIENCE_S = 10
_CANCELED = "57014"


@asynccontextmanager
async def in_time(session: AsyncSession, otherwise: str) -> AsyncIterator[None]:
    """Raises Invalid, which says `otherwise`, where a statement within takes longer than a list may."""
    await session.execute(text(f"SET LOCAL statement_timeout = {round(1_000 * PATIENCE_S)}"))
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _CANCELED:
            raise Invalid(otherwise) from None
        raise
    await session.execute(text("SET LOCAL statement_timeout = 0"))
