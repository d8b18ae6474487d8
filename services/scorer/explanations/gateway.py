"""What an explanation needs of others: the decision as it was recorded, and the version that made it."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from contracts import Format, ModelSchema
from services.kit.context import current
from services.kit.errors import Invalid, NotFound, Unavailable
from services.kit.settings import Settings
from services.kit.tokens import ServiceIdentity

_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Version:
    """A registered version."""

    digest: str
    format: Format
    model_schema: ModelSchema
    is_registered: bool = True
    """Neither retired nor in quarantine."""


class Records:
    """Reads recorder and catalog under the scorer's own identity; what the caller may see is decided here."""

    def __init__(self, settings: Settings) -> None:
        self._recorder, self._catalog = settings.url("recorder"), settings.url("catalog")
        self._identity = ServiceIdentity(settings, "scorer")

    async def decision(self, inference_id: str, row: int) -> dict[str, Any]:
        """A decision as the recorder tells it, its rows from this one on. Raises NotFound, Unavailable."""
        return await self._get(self._recorder, f"/v1/decisions/{quote(inference_id, safe='')}?row={row}", "recorder")

    async def version(self, model: str, version: int) -> Version:
        """A version as the catalog tells it. Raises NotFound, Unavailable."""
        said = await self._get(self._catalog, f"/v1/models/{quote(model, safe='')}/versions/{version}", "catalog")
        try:
            schema = ModelSchema.model_validate(said["model_schema"])
            return Version(said["digest"], said["format"], schema, said["state"] == "registered")
        except (KeyError, ValidationError) as error:
            raise Unavailable(f"the catalog's answer is not understood: {type(error).__name__}") from error

    async def _get(self, url: str, path: str, who: str) -> dict[str, Any]:
        headers = {**self._identity.headers(), "fairlead-correlation-id": current().correlation_id}
        try:
            async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S) as client:
                answer = await client.get(path, headers=headers)
        except httpx.TransportError as error:
            raise Unavailable(f"the {who} is away") from error
        if answer.status_code == 404:
            raise NotFound(str(answer.json().get("detail", "not found"))[:300])
        if answer.status_code == 422:
            raise Invalid(str(answer.json().get("detail"))[:300], answer.json().get("field"))
        if answer.is_error:
            raise Unavailable(f"the {who} answers {answer.status_code}")
        return answer.json()
