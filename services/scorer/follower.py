"""Keeps a data plane at the desired state that the agent wrote, and says what is really loaded."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from pydantic import ValidationError

from contracts import DeploymentChanged
from services.kit.errors import Busy, Refusal, Unavailable
from services.kit.telemetry import get_logger

from .dataplane import DataPlane
from .files import Watched, tell
from .runtimes.errors import CannotLoad
from .settings import ScorerSettings

log = get_logger(__name__)

_LOOK_S = 0.1
_TRY_AGAIN_S = 5.0


class Follower:
    """One process's hands: a worker's, or the streams'."""

    def __init__(self, plane: DataPlane, settings: ScorerSettings, process: str) -> None:
        self._plane = plane
        self._desired = Watched(settings.desired_path)
        self._withdrawn = Watched(settings.desired_path)
        self._arms = Watched(settings.arms_path)
        self._loaded = settings.run_folder / "loaded" / f"{process}.json"
        self._wanted: dict[str, dict[str, Any]] = {}
        self._said: dict[str, dict[str, Any]] = {}
        self._failed_at: dict[str, float] = {}
        self.caught_up = False
        """The agent has read `deployment.changed` to its end at least once since the home was made."""
        self.changed = asyncio.Event()
        """Set after the plane changed; who waits for it clears it."""

    async def run(self) -> None:
        """Follow until cancelled; what is withdrawn stops while something is being loaded, however long that takes."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_again_and_again(self.look))
            tasks.create_task(_again_and_again(self.stop_withdrawn))
            tasks.create_task(_again_and_again(self.learn))

    async def stop_withdrawn(self) -> None:
        """Look once, and drop what must not serve any more."""
        if (state := self._withdrawn.changed()) is not None:
            for name, approvals in state.get("withdrawn", {}).items():
                if self._plane.withdraw(name, approvals):
                    self._said.pop(name, None)
                    if left := self._plane.endpoints.get(name):
                        self._note(name, {"revision": left.revision}, "ready", None)
                    self._say()
                    self.changed.set()

    async def learn(self) -> None:
        """Look once what followed from the decisions of bandits."""
        for name, told in (self._arms.changed() or {}).items():
            arms = {int(version): (rewards, outcomes) for version, (rewards, outcomes) in told["arms"].items()}
            self._plane.learn(name, told["salt"], arms)

    async def look(self) -> None:
        """Look once, and load what is new. What serves goes on serving meanwhile, but for what is withdrawn."""
        await self.stop_withdrawn()
        if (state := self._desired.changed()) is not None:
            self._wanted, self.caught_up = state["endpoints"], state["caught_up"]
        elif not self._due():
            if not self._loaded.exists():
                self._say()
            return
        for name in (self._plane.endpoints.keys() | self._plane.stopped.keys()) - self._wanted.keys():
            self._plane.remove(name)
            self._said.pop(name, None)
            self.changed.set()
        for name, wanted in self._wanted.items():
            await self._reach(name, wanted)
        self._say()

    @property
    def behind(self) -> list[str]:
        """Endpoints that are not at their desired revision."""
        return [n for n, wanted in self._wanted.items() if self._said.get(n, {}).get("revision") != wanted["revision"]]

    async def _reach(self, name: str, wanted: dict[str, Any]) -> None:
        said = self._said.get(name)
        if said and said["revision"] == wanted["revision"] and name not in self._due():
            return
        try:
            await self._plane.apply(DeploymentChanged.model_validate_json(orjson.dumps(wanted)))
        except (Refusal, CannotLoad, ValidationError) as error:
            state = "loading" if isinstance(error, Busy | Unavailable) else "failed"
            log.error("an endpoint is not served as desired", endpoint=name, state=state, reason=str(error)[:500])
            self._failed_at[name] = time.monotonic()
            self._note(name, wanted, state, str(error)[:500])
            return
        self._failed_at.pop(name, None)
        self._note(name, wanted, "ready" if name in self._plane.endpoints else "removed", None)
        self.changed.set()

    def _note(self, name: str, wanted: dict[str, Any], state: str, reason: str | None) -> None:
        serving = self._plane.endpoints.get(name)
        served = serving.by_version if serving else {}
        self._said[name] = {
            "revision": wanted["revision"], "state": state, "loaded": sorted(served), "reason": reason,
            "digests": sorted({one.variant.digest for one in served.values()}),
        }  # fmt: skip

    def _due(self) -> list[str]:
        """What failed a while ago: the reason may have gone away."""
        return [name for name, at in self._failed_at.items() if time.monotonic() - at > _TRY_AGAIN_S]

    def _say(self) -> None:
        tell(self._loaded, orjson.dumps({"pid": os.getpid(), "endpoints": self._said}))


async def _again_and_again(look: Callable[[], Awaitable[None]]) -> None:
    """What cannot be read now (no descriptor is left, say) is read later: what serves goes on serving."""
    while True:
        try:
            await look()
        except OSError as error:
            log.warning("the desired state could not be read", error=error.strerror)
        await asyncio.sleep(_LOOK_S)
