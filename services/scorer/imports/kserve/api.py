"""HTTP in: KServe's inference logger, pointed at `/v1/inferences/kserve/{endpoint}`."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from contracts import Name, Version
from services.kit.auth import Verifier, allow
from services.kit.context import Caller
from services.kit.errors import Invalid
from services.kit.http import Who, who
from services.kit.ids import now
from services.kit.service import router as new_router

from .domain import attributes
from .usecases import Intake, State

PATH = "/v1/inferences/kserve"
_EXTRA: dict[str, Any] = {
    "security": [{"bearer": []}],
    # JSON, whatever it is called: the logger repeats the content type of the request that it saw.
    "requestBody": {"required": True, "content": {"*/*": {"schema": {"type": "object"}}}},
}
Answered = Annotated[Version | None, Query()]
"""The version that answered; the champion, where it is not named."""


class TakenView(BaseModel):
    """What became of a half."""

    inference_id: str
    state: State
    """`waiting` for the other half; `joined`: the inference is whole and logged; `repeated`: it was before."""


class HalvesView(BaseModel):
    """How the halves of an endpoint fared so far."""

    endpoint: str
    joined: int
    repeated: int
    lone_requests: int
    """Given up, since no response came: the request failed there, or its response was lost on the way."""
    lone_responses: int
    waiting: int
    oldest: datetime | None


def router(intake: Intake, verifier: Verifier) -> APIRouter:
    """The routes. The logger sends no header of its own choice: a token may also be the password of the URL."""
    api = new_router(prefix=PATH, tags=["imports"])

    async def take(request: Request, endpoint: str | None, version: int | None) -> TakenView:
        caller = await _sender(request, verifier)
        allow(caller, "inference.import")
        sent = attributes(request.headers, now())
        body = await request.body()
        name = endpoint or sent.service
        if not name:
            raise Invalid(
                "ce-inferenceservicename is missing, and the path names no endpoint", "ce-inferenceservicename"
            )
        return TakenView(inference_id=sent.id, state=await intake.take(caller, name, version, sent, body))

    @api.post("", openapi_extra=_EXTRA)
    async def of_service(request: Request, version: Answered = None) -> TakenView:
        """A half of an inference of the endpoint that is called as the InferenceService."""
        return await take(request, None, version)

    @api.post("/{endpoint}", openapi_extra=_EXTRA)
    async def of_endpoint(request: Request, endpoint: Name, version: Answered = None) -> TakenView:
        """A half of an inference. 400 names what does not fit the version's schema."""
        return await take(request, endpoint, version)

    @api.get("/{endpoint}")
    async def figures(endpoint: Name, caller: Who) -> HalvesView:
        """How many inferences were joined, and how many halves never met their other one."""
        allow(caller, "inference.import")
        found = await intake.figures(caller, endpoint)
        return HalvesView(endpoint=endpoint, **{name: getattr(found, name) for name in HalvesView.model_fields
                                                if name != "endpoint"})  # fmt: skip

    return api


async def _sender(request: Request, verifier: Verifier) -> Caller:
    given = request.headers.getlist("authorization")
    if len(given) == 1 and given[0][:6].lower() == "basic ":
        return verifier.presented(given[0])
    return await who(request)
