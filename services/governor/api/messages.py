"""Messages about alerts over HTTP: who was told what, and what did not arrive."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel

from services.governor.store.messages import Shown
from services.governor.usecases import Alerts, Telling
from services.kit.auth import allow
from services.kit.http import Page, Who
from services.kit.service import router as new_router

from .inputs import Text

MessageState = Literal["gathering", "waiting", "sent", "failed"]


class MessageView(BaseModel):
    """One message to one channel."""

    id: UUID
    """The same in every attempt: `webhook-id`."""
    unit: str
    subject: str
    channel: dict[str, Any]
    state: MessageState
    """`gathering` more about the subject, `waiting` for its turn or the next attempt, `sent`, `failed` for good."""
    title: str
    alerts: list[UUID]
    attempts: int
    reason: str | None
    """Why the last attempt came to nothing; of one that was sent, which recipients the server did not take."""
    gathered_at: datetime
    next_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, shown: Shown) -> "MessageView":
        """As a caller sees it."""
        names = ("id", "unit", "subject", "state", "title", "attempts", "reason", "gathered_at", "ended_at")
        return cls(
            channel=shown.channel.model_dump(mode="json", exclude_defaults=True), alerts=list(shown.alerts),
            next_at=None if shown.ended_at else shown.send_at, **{name: getattr(shown, name) for name in names},
        )  # fmt: skip


def router(alerts: Alerts, telling: Telling) -> APIRouter:
    """`/v1/alert-messages`."""
    routes = new_router(prefix="/v1/alert-messages", tags=["alerts"])

    @routes.get("")
    async def page(
        caller: Who,
        state: Annotated[tuple[MessageState, ...], Query()] = (),
        alert: UUID | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Text | None = None,
    ) -> Page[MessageView]:
        """Newest first; of one alert, or of all."""
        allow(caller, "governance.read")
        found = await alerts.messages(state, alert, limit, cursor)
        return Page[MessageView](items=[MessageView.of(shown) for shown in found.items], next=found.next)

    @routes.post("/{id}/again", status_code=202)
    async def again(id: UUID, caller: Who) -> MessageView:
        """Try one anew that failed for good, when what failed is mended; it says how things stand now."""
        allow(caller, "alert.configure")
        return MessageView.of(await telling.send_again(caller, id))

    return routes
