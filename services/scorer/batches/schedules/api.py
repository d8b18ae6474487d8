"""HTTP in: schedules of batches."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from services.kit.auth import allow
from services.kit.http import Page, Who, page
from services.kit.inputs import as_cursor, from_cursor, uuid
from services.kit.service import router as new_router

from .domain import Order, Run, Schedule
from .usecases import Schedules

PATH = "/v1/batches/schedules"


class RunView(BaseModel):
    """A time (UTC) or a file (path@version), and the batch that it became, or why it became none."""

    key: str
    batch: UUID | None
    reason: str | None
    at: datetime


class ScheduleView(BaseModel):
    """A standing order and where it stands."""

    id: UUID
    unit: str
    application: str
    order: dict[str, Any]
    state: str
    next_at: datetime | None
    missed: int
    reason: str | None
    created_at: datetime
    runs: list[RunView] | None = None
    """The latest ones, where one schedule is shown."""

    @classmethod
    def of(cls, schedule: Schedule, runs: list[Run] | None = None) -> "ScheduleView":
        """As a caller sees it."""
        names = ("id", "unit", "application", "state", "next_at", "missed", "reason", "created_at")
        order = schedule.order.model_dump(mode="json", exclude_none=True)
        seen = None if runs is None else [RunView(key=r.key, batch=r.batch, reason=r.reason, at=r.at) for r in runs]
        return cls(order=order, runs=seen, **{name: getattr(schedule, name) for name in names})


def router(schedules: Schedules) -> APIRouter:
    """To be included before the routes of `/v1/batches/{id}`."""
    routes = new_router(tags=["batches"])

    @routes.post(PATH, status_code=201)
    async def add(order: Order, caller: Who, response: Response) -> ScheduleView:
        """At times (`cron`, UTC, with `input`), or for each file that `arrives`."""
        allow(caller, "inference.score")
        made = await schedules.add(caller, order)
        response.headers["Location"] = f"{PATH}/{made.id}"
        return ScheduleView.of(made)

    @routes.get(PATH)
    async def latest(
        caller: Who, limit: Annotated[int, Query(ge=1, le=200)] = 50, cursor: str | None = None
    ) -> Page[ScheduleView]:
        allow(caller, "inference.score")
        after = from_cursor(cursor, uuid)
        found = await schedules.latest(limit + 1, after[0] if after else None)
        ahead = as_cursor(found[limit - 1].id) if found[limit:] else None
        return page([ScheduleView.of(each) for each in found], limit, ahead)

    @routes.get(PATH + "/{id}")
    async def show(id: UUID, caller: Who) -> ScheduleView:
        allow(caller, "inference.score")
        return ScheduleView.of(*await schedules.show(id))

    @routes.post(PATH + "/{id}/pause")
    async def pause(id: UUID, caller: Who) -> ScheduleView:
        allow(caller, "inference.score")
        return ScheduleView.of(await schedules.turn(id, "paused"))

    @routes.post(PATH + "/{id}/resume")
    async def resume(id: UUID, caller: Who) -> ScheduleView:
        allow(caller, "inference.score")
        return ScheduleView.of(await schedules.turn(id, "active"))

    @routes.delete(PATH + "/{id}", status_code=204)
    async def delete(id: UUID, caller: Who) -> None:
        allow(caller, "inference.score")
        await schedules.delete(id)

    return routes
