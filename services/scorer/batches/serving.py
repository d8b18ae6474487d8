"""Loads the endpoint of a job when there is one: batches are rare, and a loaded model costs memory."""

import asyncio
from typing import Any

import orjson
from pydantic import ValidationError

from contracts import DeploymentChanged
from services.kit.context import Caller
from services.kit.errors import NotFound, Refusal, Unavailable
from services.kit.telemetry import get_logger

from ..dataplane import DataPlane
from ..endpoints import Endpoint
from ..files import Watched
from ..metering import Meter
from ..runtimes.errors import CannotLoad
from ..settings import ScorerSettings

log = get_logger(__name__)


class Serving:
    """The desired state as the host's agent wrote it, loaded on demand."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._desired = Watched(settings.desired_path)
        self._said: dict[str, dict[str, Any]] = {}
        self._read: dict[str, DeploymentChanged | None] = {}
        self._plane = DataPlane(settings)
        self._loading = asyncio.Lock()
        self._refused: dict[str, str] = {}
        """Why endpoints could not be loaded at the last try."""

    @property
    def meter(self) -> Meter:
        """What batches use."""
        return self._plane.meter

    def wanted(self, name: str) -> DeploymentChanged | None:
        """The desired state of an endpoint, unverified; None where there is none."""
        if (state := self._desired.changed()) is not None:
            self._said, self._read = state["endpoints"], {}
            for stopped, approvals in state.get("withdrawn", {}).items():
                self._plane.withdraw(stopped, approvals)
        if name in self._said and name not in self._read:
            try:
                self._read[name] = DeploymentChanged.model_validate_json(orjson.dumps(self._said[name]))
            except ValidationError as error:
                log.error("a desired state is not understood", endpoint=name, reason=str(error)[:300])
                self._read[name] = None
        return self._read.get(name)

    def is_wanted(self, name: str) -> bool:
        """Whether an endpoint is to be served here and was not stopped; nothing is loaded for the answer."""
        return self.wanted(name) is not None and name not in self._plane.stopped

    async def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint at its desired revision, verified and loaded, else as it was; None where it is not to be had.

        Raises Unavailable where it may be had later.
        """
        wanted = self.wanted(name)
        if wanted is None:
            self._plane.remove(name)
            return None
        try:
            async with self._loading:
                applied = await self._plane.apply(wanted)
            self._refused.pop(name, None)
            if applied.missing:
                self._note(name, applied.missing)
        except (Refusal, CannotLoad) as error:
            self._note(name, error)
            if isinstance(error, Unavailable) and name not in self._plane.endpoints:
                raise
        self.wanted(name)  # it may have been withdrawn while it was loaded
        if name in self._plane.stopped:
            raise Unavailable(self._plane.why_stopped(name))
        return self._plane.endpoints.get(name)

    def _note(self, name: str, error: Exception) -> None:
        self._refused[name] = str(error)[:300]
        log.error("an endpoint cannot be loaded", endpoint=name, reason=str(error)[:300])

    def why_not(self, name: str) -> str:
        """Why an endpoint is not to be had here, for a person."""
        refused = self._refused.get(name) if self.wanted(name) else None
        return f"endpoint {name} cannot be loaded here: {refused}" if refused else f"endpoint {name} is not served here"

    async def allowed(self, name: str, caller: Caller) -> Endpoint:
        """The endpoint, for a caller who may use it. Raises NotFound, Forbidden or Unavailable."""
        wanted = self.wanted(name)
        if wanted and caller.sees(wanted.unit):  # a stranger makes nothing load
            await self.endpoint(name)
        return self._plane.find(name, caller)

    async def needed(self, name: str) -> Endpoint:
        """The endpoint. Raises NotFound, or Unavailable where it may be had later."""
        found = await self.endpoint(name)
        if found is None:
            raise NotFound(f"endpoint {name} is no longer served")
        return found

    def rest(self) -> None:
        """Nothing waits: give the memory back."""
        for name in list(self._plane.endpoints):
            self._plane.remove(name)
