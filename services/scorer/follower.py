"""Keeps a data plane at the desired state that the agent wrote, and says what is really loaded."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import inf
from typing import Any

import orjson
from pydantic import ValidationError

from contracts import DeploymentChanged
from services.kit.again import Backoff
from services.kit.errors import Busy, Refusal, Unavailable
from services.kit.telemetry import get_logger

from .dataplane import DataPlane
from .files import Watched, tell
from .logrecord import Origin
from .replica import served_by_others
from .runtimes.errors import CannotLoad
from .settings import ScorerSettings

log = get_logger(__name__)

_LOOK_S = 0.1
_AT_ONCE = 4
"""Endpoints that are brought to their states beside one another: opening a model takes a core, and a sandbox memory."""
_AGAIN_AT_ONCE = 1
"""Of them those that failed before: what never loads keeps no other from loading."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LONGEST_WAIT_S = 2.0, 60.0, 10.0
"""Between attempts at a state that failed; the last one: at a state that only waits for something."""


@dataclass
class _Failed:
    """A state that could not be reached."""

    revision: int
    backoff: Backoff
    due: float = 0.0
    """When it is tried again: the reason may have gone away. By `time.monotonic`."""


class Follower:
    """One process's hands: a worker's, or the streams'. Each endpoint goes its own way to its state."""

    def __init__(self, plane: DataPlane, settings: ScorerSettings, process: str) -> None:
        self._plane = plane
        self._desired = Watched(settings.desired_path)
        self._withdrawn = Watched(settings.desired_path)
        self._arms = Watched(settings.arms_path)
        self._loaded = settings.run_folder / "loaded" / f"{process}.json"
        self._wanted: dict[str, dict[str, Any]] = {}
        self._said: dict[str, dict[str, Any]] = {}
        self._unsaid = False
        self._failed: dict[str, _Failed] = {}
        self._reaching: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._again = asyncio.Semaphore(_AGAIN_AT_ONCE)
        self._looked = asyncio.Event()
        self.caught_up = False
        """The agent has read `deployment.changed` to its end at least once since the home was made."""
        self.changed = asyncio.Event()
        """Set after the plane changed; who waits for it clears it."""

    async def run(self) -> None:
        """Follow until cancelled; what is withdrawn stops while something is being loaded, however long that takes."""
        async with asyncio.TaskGroup() as tasks:

            async def look() -> None:
                await self._look(tasks)

            for one in (look, self.stop_withdrawn, self.learn):
                tasks.create_task(_again_and_again(one))

    async def settled(self, patience_s: float) -> None:
        """Wait until each endpoint serves or was tried, at most for a while; longer where another process on the same
        socket answers for one that is not there yet: nobody needs this one meanwhile. While `run` is under way."""
        await self._looked.wait()
        ends = time.monotonic() + patience_s
        while untried := self._untried():
            if time.monotonic() > ends and not untried & served_by_others(self._loaded):
                log.warning("not all endpoints are loaded yet; they are refused until then", endpoints=len(untried))
                return
            await asyncio.sleep(_LOOK_S)

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

    @property
    def behind(self) -> list[str]:
        """Endpoints that are not at their desired revision."""
        return [name for name in self._wanted if not self._is_said(name)]

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        """Look once, and begin to load what is new. What serves goes on meanwhile, but for what is withdrawn."""
        await self.stop_withdrawn()
        names = [name for name, failed in self._failed.items() if failed.due <= time.monotonic()]
        if (state := self._desired.changed()) is not None:
            self._wanted, self.caught_up = state["endpoints"], state["caught_up"]
            self._drop_unwanted()
            names, self._unsaid = list(self._wanted), True
        for name in names:
            if name not in self._reaching and self._is_due(name):
                self._reaching[name] = tasks.create_task(self._reach(name), name=f"reach {name}")
        if self._unsaid or not self._loaded.exists():
            self._say()
        self._looked.set()

    def _drop_unwanted(self) -> None:
        self._plane.awaited = {
            name: _champion(wanted) for name, wanted in self._wanted.items()
            if wanted["variants"] and not (self._is_said(name) and self._said[name]["state"] == "failed")
        }  # fmt: skip
        for name in (
            self._plane.endpoints.keys() | self._plane.stopped.keys() | self._said.keys()
        ) - self._wanted.keys():
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._plane.remove(name)
        self._said.pop(name, None)
        self._failed.pop(name, None)
        self.changed.set()

    async def _reach(self, name: str) -> None:
        """Bring an endpoint to its newest state, or note why not."""
        try:
            while self._is_due(name):
                async with AsyncExitStack() as turn:
                    if self._is_retry(name):
                        await turn.enter_async_context(self._again)
                    await turn.enter_async_context(self._slots)
                    if (wanted := self._wanted.get(name)) is not None:
                        await self._apply(name, wanted)
        finally:
            del self._reaching[name]
            if name not in self._wanted:  # it is gone since
                self._drop(name)

    async def _apply(self, name: str, wanted: dict[str, Any]) -> None:
        try:
            applied = await self._plane.apply(DeploymentChanged.model_validate_json(orjson.dumps(wanted)))
        except (Refusal, CannotLoad, ValidationError, OSError) as error:
            self._fail(name, wanted, error)
            return
        self.changed.set()
        if applied.missing:  # beside the champion, which serves
            self._fail(name, wanted, applied.missing)
            return
        self._failed.pop(name, None)
        self._note(name, wanted, "ready" if name in self._plane.endpoints else "removed", None)

    def _fail(self, name: str, wanted: dict[str, Any], error: Exception) -> None:
        waits = isinstance(error, Busy | Unavailable | OSError)
        state = "loading" if waits else "failed"
        log.error("an endpoint is not served as desired", endpoint=name, state=state, reason=str(error)[:500])
        failed = self._failed.get(name)
        if failed is None or failed.revision != wanted["revision"]:
            failed = self._failed[name] = _Failed(
                wanted["revision"], Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, forgiven_s=inf)
            )
        failed.due = time.monotonic() + min(failed.backoff.pause(), _LONGEST_WAIT_S if waits else inf)
        if not waits:
            self._plane.awaited.pop(name, None)
        self._note(name, wanted, state, str(error)[:500])

    def _is_due(self, name: str) -> bool:
        """Whether the newest state of an endpoint is to be tried now."""
        if name not in self._wanted:
            return False
        if not self._is_said(name):
            return True
        return name in self._failed and self._failed[name].due <= time.monotonic()

    def _is_retry(self, name: str) -> bool:
        failed = self._failed.get(name)
        return failed is not None and failed.revision == self._wanted[name]["revision"]

    def _is_said(self, name: str) -> bool:
        """Whether the newest state of an endpoint was reached, or could not be."""
        return self._said.get(name, {}).get("revision") == self._wanted[name]["revision"]

    def _untried(self) -> set[str]:
        """Endpoints that serve nothing here, and it is not known why."""
        return {name for name in self._wanted if name not in self._plane.endpoints and not self._is_said(name)}

    def _note(self, name: str, wanted: dict[str, Any], state: str, reason: str | None) -> None:
        serving = self._plane.endpoints.get(name)
        served = serving.by_version if serving else {}
        self._unsaid = True
        self._said[name] = {
            "revision": wanted["revision"], "state": state, "loaded": sorted(served), "reason": reason,
            "digests": sorted({one.variant.digest for one in served.values()}),
        }  # fmt: skip

    def _say(self) -> None:
        self._unsaid = not tell(self._loaded, orjson.dumps({"pid": os.getpid(), "endpoints": self._said}))


def _champion(wanted: dict[str, Any]) -> Origin:
    first = wanted["variants"][0]
    return Origin(
        wanted["endpoint"], wanted["unit"], wanted["use_case"], first["model"], first["version"], first["name"]
    )  # fmt: skip


async def _again_and_again(look: Callable[[], Awaitable[None]]) -> None:
    """What cannot be read now (no descriptor is left, say) is read later: what serves goes on serving."""
    while True:
        try:
            await look()
        except OSError as error:
            log.warning("the desired state could not be read", error=error.strerror)
        await asyncio.sleep(_LOOK_S)
