"""The control side of a scorer host: what `deployment.changed` asks for is verified, fetched and given to workers."""

import asyncio
import time
from contextlib import AsyncExitStack
from math import inf
from pathlib import Path
from typing import Any, Literal

import orjson

from contracts import DeploymentChanged, ReplicaReported
from services.kit.again import Backoff
from services.kit.away import is_away
from services.kit.cloudevents import headers
from services.kit.compacted import Change, CompactedTopic
from services.kit.context import Context, system
from services.kit.errors import Forbidden, Refusal
from services.kit.ids import now
from services.kit.objects import Objects
from services.kit.producer import Outgoing, Producer
from services.kit.signing import KeyRing
from services.kit.telemetry import get_logger

from .admission import admit, check_speaker
from .counters import metering
from .files import Watched, tell
from .libraries import Libraries, bring
from .mending import Mending
from .metering import Meter
from .packages import Packages
from .process import lives, run_child
from .replica import Report, name_of, report_of
from .rewards import Rewards
from .runtimes.errors import CannotLoad
from .settings import ScorerSettings
from .usage import UsageReports

log = get_logger(__name__)

_LOOK_S = 0.2
_LIST_S = 1.0
_TRY_AGAIN_S, _LONGEST_PAUSE_S = 2.0, 60.0
"""Between attempts at a state: at one that waits for something, and at most at one that was refused."""
_AT_ONCE = 4
"""States that are taken beside one another: a large package keeps no other from its host."""
_AGAIN_AT_ONCE = 2
"""Of them those that were not taken before."""
_HAND_ON_S = 0.5
_SAVE_AGAIN_S = 1.0


class Agent:
    """Reads the topic from its start, so a host rebuilds itself from it alone; what was served before
    is served from the first moment, Kafka or not."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._keys = KeyRing(settings.keys / "public")
        self._objects = Objects(settings)
        self._packages = Packages(settings.run_folder.absolute(), settings.package_bytes)
        self._libraries = Libraries(settings, self._packages)
        self._mending = Mending(self._packages, self._objects, self._libraries)
        self._topic = CompactedTopic(settings, DeploymentChanged)
        self._replica = name_of(settings)
        self._usage = UsageReports(settings, self._replica)
        self._wanted: dict[str, dict[str, Any]] = {}
        self._unsaved = 0.0
        """Since when something is wanted that workers were not told of."""
        self._saved = True
        """Whether the disk took what workers are to know."""
        self._floors: dict[str, int] = {}
        """The highest revision seen of each endpoint: nothing goes below it, not even after a removal."""
        self._withdrawn: dict[str, list[str]] = {}
        """Of each endpoint the approvals under which nothing may serve."""
        self._not_taken: dict[str, tuple[DeploymentChanged, Literal["failed", "loading"], str]] = {}
        """Newest states that are not handed on: refused, or waiting for what is away."""
        self._newest: dict[str, Change[DeploymentChanged]] = {}
        self._pending: dict[str, Change[DeploymentChanged]] = {}
        self._taking: dict[str, asyncio.Task[None]] = {}
        self._in_hand: dict[str, DeploymentChanged] = {}
        """States whose packages are being fetched."""
        self._tries: dict[str, tuple[int, Backoff]] = {}
        """Of endpoints whose newest state was refused: its revision, and when it is looked at again."""
        self._slots, self._retries = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_AGAIN_AT_ONCE)
        self._seen: set[str] = set()
        self._told: dict[str, Report] = {}
        self._folder = settings.run_folder / "loaded"
        self._folder_at, self._listed_at = 0, 0.0
        self._loading: dict[str, Watched] = {}
        self._said: dict[str, dict[str, Any]] = {}
        self._rewards = Rewards(settings, lambda: self._wanted)
        self._caught_up = self._ever_caught_up = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop."""
        self._packages.sweep()
        self._resume()
        async with asyncio.TaskGroup() as tasks:
            packages = self._mending.run(self._needed), self._libraries.keep(self._needed)
            others = self._usage.run(), self._rewards.run(), *packages
            own = self._listen(), self._work(), self._report(), self._keep_saved()
            work = [tasks.create_task(one) for one in (*own, *others)]
            await stop.wait()
            for task in work:
                task.cancel()

    async def _listen(self) -> None:
        async for change in self._topic.changes():
            self._seen.add(change.key)
            self._withdraw(change)
            self._pending[change.key] = self._newest[change.key] = change

    def _withdraw(self, change: Change[DeploymentChanged]) -> None:
        """At once, while a successor may be on its way for long: what is withdrawn waits for nothing."""
        if change.event is None:
            return
        name, known = change.event.endpoint, set(self._withdrawn.get(change.event.endpoint, ()))
        said = {str(approval) for approval in change.event.withdrawn}
        if said <= known:
            return
        try:
            check_speaker(change.event, self._keys)
        except Forbidden as error:
            log.error("a withdrawal is refused", endpoint=name, reason=error.message)
            return
        self._withdrawn[name] = sorted(known | said)
        log.info("approvals are withdrawn", endpoint=name, approvals=sorted(said - known))
        self._save()

    async def _work(self) -> None:
        """Only the newest state of an endpoint counts: begin when all that is there was read. The host is caught up
        once each of the states that were there then was taken, or why not is known."""
        await self._topic.caught_up.wait()
        self._forget_unknown()
        self._caught_up = True
        self._save()
        async with asyncio.TaskGroup() as takers:
            self._begin(takers)
            first = list(self._taking.values())
            while True:
                self._begin(takers)
                self._hand_on(now=not self._taking)
                if first is not None and all(task.done() for task in first):
                    first, self._ever_caught_up = None, True
                    self._save()
                await asyncio.sleep(_LOOK_S)

    def _begin(self, takers: asyncio.TaskGroup) -> None:
        for key in self._pending.keys() - self._taking.keys():
            self._taking[key] = takers.create_task(self._take_newest(key), name=f"take {key}")

    async def _take_newest(self, key: str) -> None:
        """One endpoint's states, each as soon as the one before it is done with."""
        try:
            while (change := self._pending.pop(key, None)) is not None:
                async with AsyncExitStack() as turn:
                    if change.event is not None:
                        if key in self._not_taken:
                            await turn.enter_async_context(self._retries)
                        await turn.enter_async_context(self._slots)
                    if self._newest[key] is change:
                        await self._take(change)
                self._hand_on()
        finally:
            del self._taking[key]

    async def _take(self, change: Change[DeploymentChanged]) -> None:
        if change.event is None:
            self._not_taken.pop(change.key, None)
            self._tries.pop(change.key, None)
            self._withdrawn.pop(change.key, None)
            if self._wanted.pop(change.key, None):
                self._save()
            return
        event = change.event
        floor = self._floors.get(event.endpoint, 0)
        if event.revision <= floor:
            if event.revision < floor:
                log.error("a lower revision is refused", endpoint=event.endpoint, revision=event.revision, seen=floor)
            return
        self._in_hand[event.endpoint] = event
        try:
            admit(event, self._keys)
            await bring((v.digest for v in event.variants), self._packages, self._objects, self._libraries)
        except (Refusal, CannotLoad, OSError) as error:
            self._leave(event, error, change)
            return
        finally:
            del self._in_hand[event.endpoint]
        if self._newest[change.key] is not change:
            return  # it was replaced, or removed, while its packages were fetched
        self._not_taken.pop(event.endpoint, None)
        self._tries.pop(event.endpoint, None)
        self._floors[event.endpoint] = event.revision
        self._wanted[event.endpoint] = orjson.loads(event.to_json())
        self._unsaved = self._unsaved or time.monotonic()
        log.info("an endpoint has a new desired state", endpoint=event.endpoint, revision=event.revision)

    def _hand_on(self, *, now: bool = False) -> None:
        """What was taken: of very many at once, some at a time."""
        if self._unsaved and (now or time.monotonic() - self._unsaved > _HAND_ON_S):
            self._unsaved = 0.0
            self._save()
            if self._saved:
                self._prune()

    def _prune(self) -> None:
        """What a process serves stays, also while a newer state that cannot be loaded is wanted."""
        coming = {variant.digest for event in self._in_hand.values() for variant in event.variants}
        for digest in self._packages.prune(self._needed() | coming, self._settings.package_cache_bytes):
            log.info("a package that nobody serves is gone", digest=digest)

    def _needed(self) -> set[str]:
        wanted = {variant["digest"] for endpoint in self._wanted.values() for variant in endpoint["variants"]}
        served = {digest for said in self._loaded().values() for one in said.values() for digest in one["digests"]}
        return wanted | served

    def _leave(self, event: DeploymentChanged, error: Exception, change: Change[DeploymentChanged]) -> None:
        """What serves goes on serving. Only a refusal is told as a failure, which ends a rollout: what is away, or a
        disk that takes nothing, is no fault of the version's."""
        state = "loading" if isinstance(error, OSError) or is_away(error) else "failed"
        log.error("a desired state is not taken", endpoint=event.endpoint, revision=event.revision, state=state,
                  reason=str(error))  # fmt: skip
        self._not_taken[event.endpoint] = (event, state, str(error)[:500])
        if not isinstance(error, Forbidden):
            pause = _TRY_AGAIN_S if state == "loading" else self._backoff(event).pause()
            asyncio.get_running_loop().call_later(pause, self._again, change)

    def _backoff(self, event: DeploymentChanged) -> Backoff:
        """Of a state that was refused."""
        revision, backoff = self._tries.get(event.endpoint, (0, None))
        if backoff is None or revision != event.revision:
            backoff = Backoff(_TRY_AGAIN_S, _LONGEST_PAUSE_S, forgiven_s=inf)
            self._tries[event.endpoint] = event.revision, backoff
        return backoff

    def _again(self, change: Change[DeploymentChanged]) -> None:
        if self._newest[change.key] is change:
            self._pending.setdefault(change.key, change)

    def _forget_unknown(self) -> None:
        """The topic is the truth: what it no longer knows was removed while this host was away."""
        for name in [name for name in self._wanted if name not in self._seen]:
            del self._wanted[name]

    def _save(self) -> None:
        state = {
            "caught_up": self._ever_caught_up, "endpoints": self._wanted, "floors": self._floors,
            "withdrawn": self._withdrawn,
        }  # fmt: skip
        self._saved = tell(self._settings.desired_path, orjson.dumps(state))

    async def _keep_saved(self) -> None:
        """A disk that takes nothing is tried again: what is withdrawn must arrive as soon as it can."""
        while True:
            await asyncio.sleep(_SAVE_AGAIN_S)
            if not self._saved:
                self._save()

    def _resume(self) -> None:
        try:
            state = orjson.loads(self._settings.desired_path.read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return
        self._wanted, self._floors = state["endpoints"], state["floors"]
        self._withdrawn = state.get("withdrawn", {})
        self._ever_caught_up = state["caught_up"]

    async def _report(self) -> None:
        """Say what is really loaded, whenever that changes."""
        backoff = Backoff(0.2)
        while True:
            try:
                async with Producer(self._settings) as producer:
                    while True:
                        if news := self._news():
                            await producer.send_all([self._outgoing(name, report) for name, report in news.items()])
                            self._told |= news
                        await asyncio.sleep(_LOOK_S)
            except Exception as error:  # its kinds have no common base; all others go on
                if not is_away(error):
                    raise
                log.warning("reports are delayed", error=str(error)[:200])
                await asyncio.sleep(backoff.pause())

    def _news(self) -> dict[str, Report]:
        if not self._caught_up:
            return {}
        loaded = self._loaded()
        slots = [loaded.get(name, {}) for name in self._settings.slots]
        now_so = {name: report_of(name, wanted, slots) for name, wanted in self._wanted.items()}
        for name, (event, state, reason) in self._not_taken.items():
            serving = now_so[name].loaded if name in now_so else ()
            now_so[name] = Report(event.unit, event.revision, state, reason, serving)
        for name in self._told.keys() - now_so.keys():
            told = self._told[name]
            now_so[name] = Report(told.unit, told.revision, "removed", None, ())
        return {name: report for name, report in now_so.items() if self._told.get(name) != report}

    def _loaded(self) -> dict[str, dict[str, Any]]:
        """What each living process says that it serves: what a dead one said is over."""
        at, now_s = _changed_ns(self._folder), time.monotonic()
        # Each word replaces a file of the folder; its time is coarse, and may be that of the word before.
        if at != self._folder_at or now_s - self._listed_at > _LIST_S:
            self._folder_at, self._listed_at = at, now_s
            for path in self._folder.glob("[!.]*.json"):
                if (new := self._loading.setdefault(path.stem, Watched(path)).changed()) is not None:
                    self._said[path.stem] = new
        return {name: one["endpoints"] for name, one in self._said.items() if lives(one["pid"])}

    def _outgoing(self, endpoint: str, report: Report) -> Outgoing:
        event = ReplicaReported(
            endpoint=endpoint, replica=self._replica, revision=report.revision, state=report.state,
            reason=report.reason, loaded=report.loaded, slots=len(self._settings.slots), reported_at=now(),
        )  # fmt: skip
        story = Context(system("scorer"))
        said = headers(ReplicaReported, "scorer", event.key, story, report.unit)
        return ReplicaReported.topic.name, event.key.encode(), event.to_json(), said


async def main(settings: ScorerSettings, stop: asyncio.Event) -> None:
    """The control side, until told to stop."""
    async with metering(Meter(), settings, "agent"):
        await Agent(settings).run(stop)


def _changed_ns(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    run_child("agent", main)
