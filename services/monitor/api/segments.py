"""HTTP in: how far columns moved within the groups of segments."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from contracts import Name
from services.kit.auth import allow
from services.kit.http import Who
from services.kit.service import router as new_router

from ..domain.outcomes.intervals import ALPHA
from ..domain.segments import LEAST_ROWS, Group
from ..usecases.segments import Drifted, Segments

Windows = Annotated[int, Query(ge=1, le=2_000)]
Limit = Annotated[int, Query(ge=1, le=1_000)]


class MovedView(BaseModel):
    """How far a column moved within a group: an index of stability (PSI) with its interval."""

    name: str
    effect: float
    interval: tuple[float, float]
    beyond: bool
    """Whether the whole interval is beyond the endpoint's tolerance."""


class GroupView(BaseModel):
    """One group of a segment; its columns, the most surely moved first."""

    segment: str
    group: str
    rows: int
    reference_rows: int
    columns: list[MovedView]
    why: str | None
    """Why no column is told, where none is."""

    @classmethod
    def of(cls, found: Group, tolerance: float, limit: int) -> "GroupView":
        columns = [
            MovedView(name=c.column, effect=c.size, interval=(c.low, c.high), beyond=c.low > tolerance)
            for c in found.columns[:limit]
        ]
        why = None if columns else f"fewer than {LEAST_ROWS} rows, of it now or in the reference"
        return cls(
            segment=found.segment, group=found.group, rows=found.rows, reference_rows=found.reference_rows,
            columns=columns, why=why,
        )  # fmt: skip


class SegmentDriftView(BaseModel):
    """Of the newest windows whose counts are kept: figures to look at."""

    endpoint: str
    version: int
    confidence: float
    """With which all intervals of this answer hold together."""
    tolerance: float
    start: datetime | None
    end: datetime | None
    windows: int
    rows: int
    groups: list[GroupView]

    @classmethod
    def of(cls, endpoint: str, found: Drifted, limit: int) -> "SegmentDriftView":
        return cls(
            endpoint=endpoint, version=found.version, confidence=1 - ALPHA, tolerance=found.tolerance,
            start=found.start, end=found.end, windows=found.windows, rows=found.rows,
            groups=[GroupView.of(each, found.tolerance, limit) for each in found.groups],
        )  # fmt: skip


def router(segments: Segments) -> APIRouter:
    """Below `/v1/monitors/{endpoint}`."""
    api = new_router(prefix="/v1/monitors", tags=["monitors"])

    @api.get("/{endpoint}/drift/segments")
    async def drift(endpoint: Name, caller: Who, windows: Windows = 60, limit: Limit = 5) -> SegmentDriftView:
        allow(caller, "monitor.read")
        return SegmentDriftView.of(endpoint, await segments.drift(endpoint, windows), limit)

    return api
