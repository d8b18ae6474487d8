"""The truth of a row, which its shadows decided too."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ..domain.outcomes import Report

# A label is true whoever decides; a value came of the decision that was told.
_SAID = """
    SELECT d.inference_id, o."row", o.label, o.units, o.reported_by
    FROM outcome AS o JOIN decision AS d ON d.shadow_of = o.inference_id
"""


async def for_shadows(session: AsyncSession, ids: Sequence[str]) -> list[Report]:
    """What was observed of some inferences, as reports about their shadows."""
    select = (
        _SAID
        + """
        WHERE o.inference_id = ANY (CAST(:ids AS text[])) AND o.state = 'observed' AND o.label IS NOT NULL
    """
    )
    return [_said(row) for row in await session.execute(text(select), {"ids": list(ids)})]


async def for_late_shadows(session: AsyncSession, lately: timedelta, limit: int) -> list[Report]:
    """The same for shadows that were recorded after the outcome was observed, which was lately."""
    select = (
        _SAID
        + """
        LEFT JOIN outcome AS own ON own.inference_id = d.inference_id AND own."row" = o."row"
        WHERE o.state = 'observed' AND o.observed_at > now() - CAST(:lately AS interval) AND o.label IS NOT NULL
            AND own.inference_id IS NULL
        LIMIT :limit
    """
    )
    return [_said(row) for row in await session.execute(text(select), {"lately": lately, "limit": limit})]


def _said(row: Any) -> Report:
    units = None if row.units is None else frozenset(row.units)
    return Report(row.inference_id, row.row, row.label, None, row.reported_by, units)
