"""What each version behind an endpoint uses of a process: processor time, wall time, memory, bytes.

What a process uses is shared out whole: what its models did in threads and sandboxes of their own is measured, while
they do it; what the event loop's thread did is shared in proportion to the time that each version's calls, and the
reading and writing around them, took on it. So HTTP and the spool go with those who caused them. What a process uses
while nobody asks is overhead, and named so.
"""

import asyncio
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import orjson

from services.kit.errors import Busy, Refusal

from .engines import Engine, life_of, resident
from .files import tell
from .logrecord import Origin

_Key = tuple[str, int, str]

_OURS = 500
"""HTTP statuses from here on are the server's fault."""
_EVERY_S = 2.0
_SILENCE_S = 1.0
"""A shorter time without a request says little about what a process uses when nobody asks."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a process used for a version since it told so last."""

    origin: Origin
    model_cpu_s: float
    serving_cpu_s: float
    busy_s: float
    memory_bytes: int
    """As of now."""


@dataclass(slots=True, eq=False)
class _Elsewhere:
    """A version's models in a process that tells what they use: an `Engine`."""

    waiting: int = 0
    busy_s: float = 0.0
    inline_s: float = 0.0
    thread_cpu_s: float = 0.0
    outside_cpu_s: float = 0.0
    inside_bytes: int = 0
    outside_bytes: int = 0
    lowered: int = 0
    ended: bool = False


@dataclass(slots=True)
class _Seen:
    """Sums that only grow."""

    own_s: float = 0.0
    busy_s: float = 0.0
    inline_s: float = 0.0
    thread_cpu_s: float = 0.0
    outside_cpu_s: float = 0.0
    lowered: float = 0.0

    @classmethod
    def of(cls, engine: Engine) -> "_Seen":
        return cls(0.0, engine.busy_s, engine.inline_s, engine.thread_cpu_s, engine.outside_cpu_s, engine.lowered)

    def __sub__(self, other: "_Seen") -> "_Seen":
        return _Seen(*(getattr(self, name) - getattr(other, name) for name in _NAMES))

    def __or__(self, other: "_Seen") -> "_Seen":
        """The larger of each: a clock that is read while its thread goes on may be ahead of the sum that follows."""
        return _Seen(*(max(getattr(self, name), getattr(other, name)) for name in _NAMES))


_NAMES = tuple(_Seen.__slots__)


def _summed(parts: Sequence[_Seen]) -> _Seen:
    return _Seen(*(sum(getattr(part, name) for part in parts) for name in _NAMES))


@dataclass(slots=True)
class Account:
    """What one version did since the process started, and what that took."""

    origin: Origin
    inferences: int = 0
    rows: int = 0
    refused: int = 0
    faults: int = 0
    """Of them those that no other request would have helped."""
    failed: int = 0
    """Requests that it was to answer and that another version answered in its place."""
    shadow_dropped: int = 0
    """Copies that it was to score as a shadow and did not."""
    seconds: float = 0.0
    """From receipt to reply, summed."""
    own_s: float = 0.0
    """Time on the event loop that reading its requests and writing its answers and log records took."""
    bytes_in: int = 0
    bytes_out: int = 0
    model_cpu_s: float = 0.0
    """As of the last `Meter.settle`, like those that follow."""
    serving_cpu_s: float = 0.0
    busy_s: float = 0.0
    lowered: float = 0.0
    """How often fewer rows were taken on the event loop than before, because calls were slow."""
    inside_bytes: int = 0
    outside_bytes: int = 0
    engines: list[Engine] = field(default_factory=list[Engine])
    _seen: _Seen = field(default_factory=_Seen)
    _over: _Seen = field(default_factory=_Seen)
    """What engines that are gone used."""

    @property
    def used(self) -> bool:
        """Whether there is anything to tell: of thousands of versions most may never be asked."""
        return bool(self.inferences or self.refused or self.model_cpu_s or self.serving_cpu_s)

    def refuse(self, refusal: Refusal) -> None:
        """Count a request that gets no answer, and whether that is the caller's fault."""
        self.refused += 1
        self.faults += refusal.status == Busy.status or refusal.status >= _OURS

    def charge(self, engine: Engine) -> None:
        """From now on what it uses is this version's, opening it included."""
        if engine not in self.engines:
            self.engines.append(engine)

    def measured(self) -> _Seen:
        """What was measured since the last time, of what ended too until its process is gone."""
        parts = [_Seen.of(engine) for engine in self.engines]
        so_far = _summed([self._over, *parts])
        so_far.own_s = self.own_s
        so_far |= self._seen
        new, self._seen = so_far - self._seen, so_far
        self.busy_s, self.lowered = so_far.busy_s, so_far.lowered
        self.inside_bytes = sum(engine.inside_bytes for engine in self.engines if not engine.ended)
        self.outside_bytes = sum(engine.outside_bytes for engine in self.engines)
        return new

    def forget_ended(self) -> None:
        """Keep only the sums of what is gone."""
        ended = [engine for engine in self.engines if engine.ended and not engine.outside_bytes]
        if ended:
            self._over = _summed([self._over, *map(_Seen.of, ended)])
            self.engines = [engine for engine in self.engines if engine not in ended]

    def json(self) -> dict[str, Any]:
        """All of it, for whoever sums it up."""
        names = ("endpoint", "unit", "use_case", "model", "version")
        amounts = (
            "inferences", "rows", "refused", "faults", "bytes_in", "bytes_out", "busy_s", "model_cpu_s",
            "serving_cpu_s",
        )  # fmt: skip
        said = {name: getattr(self.origin, name) for name in names}
        said |= {name: getattr(self, name) for name in amounts}
        return said | {"memory_bytes": self.inside_bytes + self.outside_bytes}


class Meter:
    """The accounts of one process. Lives on its event loop."""

    def __init__(
        self, cpu: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cpu, self._clock = cpu, clock
        self._accounts: dict[_Key, Account] = {}
        self.overhead_cpu_s = self._settled_cpu = cpu()
        """What nobody's requests took; first of all the start."""
        self._settled_at = clock()
        self._ahead_s = 0.0
        """What was shared out before `cpu` told of it, or twice because it was measured late: others get less then."""
        self._idle = inf
        """The least that a second without a request ever took."""
        self._elsewhere: dict[tuple[str, _Key], _Elsewhere] = {}
        self._told: dict[_Key, Told] = {}
        self._client: Account | None = None

    @property
    def accounts(self) -> list[Account]:
        """Of all versions that this process ever served."""
        return list(self._accounts.values())

    @property
    def overhead_bytes(self) -> int:
        """Memory of this process that no model took."""
        return max(0, resident() - sum(account.inside_bytes for account in self._accounts.values()))

    def account(self, origin: Origin) -> Account:
        """The account of a version behind an endpoint: it is the same when the version is loaded anew."""
        key = _key(origin)
        found = self._accounts.setdefault(key, Account(origin))
        found.origin = origin
        return found

    def settle(self) -> None:
        """Share out what was used since the last time."""
        cpu, at = self._cpu(), self._clock()
        rest, took = cpu - self._settled_cpu, at - self._settled_at
        self._settled_cpu, self._settled_at = cpu, at
        new = [(account, account.measured()) for account in self._accounts.values()]
        rest -= sum(used.thread_cpu_s for _, used in new) + self._ahead_s
        rest, self._ahead_s = max(0.0, rest), max(0.0, -rest)
        for account, used in new:
            account.model_cpu_s += used.thread_cpu_s + used.outside_cpu_s
            account.forget_ended()
        weights = _weights([used for _, used in new])
        if self._client and not any(weights):
            weights = [float(account is self._client) for account, _ in new]
        if not (total := sum(weights)):
            if took >= _SILENCE_S:
                self._idle = min(self._idle, rest / took)
            self.overhead_cpu_s += rest
            return
        idle = min(rest, self._idle * took) if self._idle < inf else 0.0
        self.overhead_cpu_s += idle
        for (account, used), weight in zip(new, weights, strict=True):
            share = (rest - idle) * weight / total
            inline = share * used.inline_s / (used.inline_s + used.own_s) if used.inline_s else 0.0
            account.model_cpu_s += inline
            account.serving_cpu_s += share - inline

    @contextmanager
    def working_for(self, account: Account) -> Generator[None]:
        """What no call of a model tells of is done for this version while the block lasts, and what led to it since the
        last look is too: libraries may have been imported for it."""
        self._client = account
        try:
            yield
        finally:
            self.settle()
            self._client = None

    def report(self, asked: Account) -> list[Told]:
        """What was used since the last report, all of it. For a process that works for one version at a time: its start
        and its overhead are charged to whom it works for now."""
        self.settle()
        asked.serving_cpu_s += self.overhead_cpu_s
        self.overhead_cpu_s, spare = 0.0, self.overhead_bytes
        return [self._since_told(account, spare if account is asked else 0) for account in self._accounts.values()]

    def _since_told(self, account: Account, spare_bytes: int) -> Told:
        before = self._told.get(_key(account.origin), Told(account.origin, 0.0, 0.0, 0.0, 0))
        memory = account.inside_bytes + account.outside_bytes + spare_bytes
        so_far = Told(account.origin, account.model_cpu_s, account.serving_cpu_s, account.busy_s, memory)
        self._told[_key(account.origin)] = so_far
        return Told(
            account.origin, so_far.model_cpu_s - before.model_cpu_s, so_far.serving_cpu_s - before.serving_cpu_s,
            so_far.busy_s - before.busy_s, memory,
        )  # fmt: skip

    def hear(self, process: str, told: Sequence[Told]) -> None:
        """Take what another process used into the accounts of this one, which writes them down for both."""
        for one in told:
            account, key = self.account(one.origin), (process, _key(one.origin))
            if key not in self._elsewhere:
                account.engines.append(self._elsewhere.setdefault(key, _Elsewhere()))
            engine = self._elsewhere[key]
            account.serving_cpu_s += one.serving_cpu_s
            engine.outside_cpu_s += one.model_cpu_s
            engine.busy_s += one.busy_s
            engine.outside_bytes = one.memory_bytes

    def silent(self) -> None:
        """The processes that were heard are gone: what they used stays, their memory is free."""
        for engine in self._elsewhere.values():
            engine.ended, engine.outside_bytes = True, 0
        self._elsewhere.clear()

    def told(self) -> list[dict[str, Any]]:
        """Every account with something in it, as of now."""
        self.settle()
        return [account.json() for account in self._accounts.values() if account.used]

    async def publish(self, run_folder: Path, process: str) -> None:
        """Write them for who sums them up, until cancelled; the file outlives the process."""
        path = run_folder / "usage" / f"{process}.{life_of(os.getpid())}.json"
        try:
            while True:
                tell(path, orjson.dumps(self.told()))
                await asyncio.sleep(_EVERY_S)
        finally:
            tell(path, orjson.dumps(self.told()))


def _key(origin: Origin) -> _Key:
    return origin.endpoint, origin.version, origin.model


def _weights(used: Sequence[_Seen]) -> list[float]:
    """By what they did on the event loop; where they did nothing there, by what they did elsewhere."""
    weights = [one.own_s + one.inline_s for one in used]
    return weights if any(weights) else [one.thread_cpu_s + one.outside_cpu_s for one in used]
