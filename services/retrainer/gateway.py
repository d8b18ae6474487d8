"""The two services that the retrainer calls: recorder for rows, governor for a person's request."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import httpx

from services.kit.context import current
from services.kit.errors import Invalid, Unavailable
from services.kit.settings import Settings
from services.kit.tokens import ServiceIdentity
from services.kit.unanswered import unanswered

_TIMEOUT_S = 120.0
_FORWARDED = ("authorization", "content-type", "idempotency-key")


class NoSnapshot(Exception):
    """The recorder refused; its reason is for people."""


@dataclass(frozen=True)
class Snapshot:
    """Recorded rows as a Parquet object."""

    digest: str
    rows: int


class Recorder:
    """Makes snapshots of what was recorded, under the retrainer's own identity, narrowed to the unit of the job."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.url("recorder")
        self._identity = ServiceIdentity(settings, "retrainer")

    async def snapshot(self, endpoint: str, model: str, since: datetime | None) -> Snapshot:
        """Freeze the rows of an endpoint. Raises Unavailable, or NoSnapshot where asking again does not help."""
        (unit,) = current().caller.units
        body = {"endpoint": endpoint, "model": model, "since": since.isoformat() if since else None, "unit": unit}
        headers = {**self._identity.headers(), "fairlead-correlation-id": current().correlation_id}
        try:
            async with httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT_S) as client:
                answer = await client.post("/v1/snapshots", json=body, headers=headers)
        except httpx.TransportError as error:
            raise Unavailable(f"the recorder is away: {error!r}") from error
        if answer.status_code >= 500 or answer.status_code in (401, 408, 429):
            raise Unavailable(f"the recorder answers {answer.status_code}")
        if answer.is_error:
            raise NoSnapshot(f"the recorder makes no snapshot: {_detail(answer)}")
        made = answer.json()
        return Snapshot(str(made["digest"]), int(made["rows"]))


class Governor:
    """Where a person's request for a retraining goes: it becomes the same event as a drift's."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.url("governor")

    async def ask(self, body: bytes, said: Mapping[str, str]) -> httpx.Response:
        """Pass a request on, by its body and headers, with the caller's own token. Raises Unavailable, AnswerLost."""
        headers = {name: value for name, value in said.items() if name in _FORWARDED}
        headers["fairlead-correlation-id"] = current().correlation_id
        try:
            async with httpx.AsyncClient(base_url=self._url, timeout=30.0) as client:
                return await client.post("/v1/retrainings", content=body, headers=headers)
        except httpx.TransportError as error:
            raise unanswered("governor", "POST", error) from error
        except UnicodeEncodeError as error:
            raise Invalid("a header is not ASCII text") from error


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])[:500]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
