"""When a worker is ready: at its desired state, and able to log what it answers."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import orjson

from services.kit.health import Progress

from .dataplane import DataPlane
from .files import Watched, tell
from .follower import Follower
from .settings import ScorerSettings
from .spool import Spool, aside
from .spool.writer import checkpoint

_QUIET_S = 30.0
_TELL_AGAIN_S = 10.0
_ALMOST_FULL = 0.95
_SAYING = ("streams", "batches")
"""The processes that tell of their parts as `Told`: nobody can ask them."""


class Told:
    """What another process of the host says of its parts, in a file: `tell` writes it, readiness shows it."""

    def __init__(self, run_folder: Path, process: str) -> None:
        self._process = process
        self._file = Watched(path_of(run_folder, process))
        self._said: dict[str, Any] = {}

    def delays(self) -> dict[str, str]:
        """Its parts that do not get on; itself, when it has said nothing for a while."""
        self._said = self._file.changed() or self._said
        if not self._said or time.time() - self._said["at"] > _QUIET_S:
            return {f"process {self._process}": "has not been heard of"}
        return {f"{self._process}: {part}": reason for part, reason in self._said["problems"].items()}


def path_of(run_folder: Path, process: str) -> Path:
    """Where a process says how its parts get on."""
    return run_folder / "health" / f"{process}.json"


async def tell_progress(run_folder: Path, process: str, progress: Progress) -> None:
    """Say how the parts of this process get on, for the workers' readiness: within a second of a change, and every ten
    seconds that it still lives."""
    told: dict[str, str] | None = None
    told_at = 0.0
    while True:
        problems = progress.problems()
        if problems != told or time.monotonic() - told_at > _TELL_AGAIN_S:
            said = {"pid": os.getpid(), "at": time.time(), "problems": problems}
            told = problems if tell(path_of(run_folder, process), orjson.dumps(said)) else None
            told_at = time.monotonic()
        await asyncio.sleep(1)


class Backlog:
    """Records that wait while the forwarder's place does not move, whatever the forwarder says of itself."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._at, self._since = -1, 0.0

    def delay(self) -> str:
        """For how long nothing was forwarded of what waits, as far as it was asked; empty where the log gets on."""
        at = checkpoint(self._spool.folder)[2]
        if at >= self._spool.seq or at != self._at:
            self._at, self._since = at, time.monotonic()
        stood = time.monotonic() - self._since
        return f"nothing was forwarded for {stood:.0f} s, and records wait" if stood > _QUIET_S else ""


class Health:
    """A delayed log does not make a scorer unready: it answers as fast as ever until the spool is full."""

    def __init__(self, settings: ScorerSettings, plane: DataPlane, follower: Follower, spool: Spool) -> None:
        self._plane = plane
        self._follower = follower
        self._spool = spool
        self._backlog = Backlog(spool)
        self._limit = settings.slot_bytes
        self._forwarder = Watched(settings.run_folder / "forwarder.json")
        self._children = Watched(settings.run_folder / "children.json")
        self._told = [Told(settings.run_folder, process) for process in _SAYING]
        self._failing: dict[str, str] = {}
        self._said: dict[str, Any] = {}

    def problems(self) -> dict[str, str]:
        """Why this worker should get no traffic."""
        found: dict[str, str] = {}
        if not self._follower.caught_up:
            found["agent"] = "deployment.changed has not been read yet"
        told = self._plane.endpoints.keys() | self._plane.stopped.keys()
        if behind := [name for name in self._follower.behind if name not in told]:
            found["models"] = f"still loading: {', '.join(behind[:10])}"
        if trouble := self._spool.trouble:
            found["spool"] = trouble
        elif self._spool.used > self._limit * _ALMOST_FULL:
            found["spool"] = "the log's spool is nearly full"
        return found

    def delays(self) -> dict[str, str]:
        """What does not get on, though answers do: the log, single models, other processes of the host."""
        if (failing := self._children.changed()) is not None:
            self._failing = failing
        found = self._models() | {
            f"endpoint {name}": "what it served was withdrawn, its successor is being loaded"
            for name in self._plane.stopped
        }  # fmt: skip
        for told in self._told:
            found |= told.delays()
        found |= {f"process {name}": reason for name, reason in self._failing.items()}
        self._said = self._forwarder.changed() or self._said
        if not self._said or time.time() - self._said["at"] > _QUIET_S:
            found["forwarder"] = "has not been heard of"
        elif self._said["failing"]:
            found["forwarder"] = self._said["failing"]
        elif reason := self._backlog.delay():
            found["log"] = reason
        if count := aside(self._spool.folder):
            found["spool"] = f"{count} damaged segments of the log are set aside ({self._spool.folder}/*.damaged)"
        return found

    def _models(self) -> dict[str, str]:
        """Told and no reason to get no traffic: whoever sends a bad input must not take the others' scorer away."""
        served = [one for endpoint in self._plane.endpoints.values() for one in endpoint.by_version.values()]
        return {f"model {s.origin.endpoint}/{s.origin.version}": s.lane.trouble for s in served if s.lane.trouble}
