"""The one way from a request to an answer, under REST, stream and batch."""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from sys import intern
from typing import Literal

from contracts import DeploymentChanged, Mode, Variant
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.errors import Busy, NotFound, Refusal, Unavailable
from services.kit.ids import now, uuid7_text
from services.kit.signing import KeyRing
from services.kit.telemetry import get_logger

from . import mlflow
from .admission import admit
from .failures import Failures
from .lane import Lane, Limits
from .logrecord import LogRecord, Origin, RecordBuilder
from .metering import Account, Meter, resident
from .packages import Packages
from .residency import Residency
from .routing import Arms, Router, router_of
from .routing import Counts as Rewards
from .runtimes import Arrays
from .runtimes.errors import CannotLoad, ModelFailed
from .runtimes.opening import load
from .settings import ScorerSettings
from .tokenise import Tokeniser
from .v2 import Codec, Encoded, Request
from .warmup import joinable, sample

log = get_logger(__name__)

_WARM_ROWS = 32
_SESSION_BYTES = 128 * 1024
"""What a model in this process takes beside its file's bytes, at least: seen of ONNX Runtime's smallest, 113 KiB."""


@dataclass(slots=True)
class Ask:
    """A request as it came in, whatever the way."""

    body: bytes
    json_length: int | None = None
    """Of the binary tensor extension: how many bytes of the body are JSON."""
    protocol: Literal["v2"] | mlflow.Form = "v2"
    inference_id: str | None = None
    """Given by a stream, whose ids come from the input record; else a new one."""
    correlation_id: str | None = None
    traceparent: str | None = None
    received_at: datetime = field(default_factory=now)
    started: float = field(default_factory=time.perf_counter)
    request: Request | None = None
    """What the body says, once somebody has read it."""
    reading_s: float = 0.0
    """How long that took."""
    read_as: str = ""
    """The `Served.reading` of `request`."""
    route: "Route | None" = None
    """Who shall answer, where an endpoint has a choice."""


@dataclass(slots=True)
class Answer:
    """A response on the wire and its log record. Who answers must log first, then `count` and reply."""

    inference_id: str
    version: int
    body: bytes
    json_length: int | None
    record: LogRecord
    rows: int
    account: Account
    took_s: float
    bytes_in: int
    shadows: "tuple[Served, ...]" = ()
    """Who gets a copy of the request, now that it is answered."""

    def count(self) -> None:
        """It is an inference: the log has it, or the operator lets it go without."""
        account = self.account
        account.inferences += 1
        account.rows += self.rows
        account.seconds += self.took_s
        account.bytes_in += self.bytes_in
        account.bytes_out += len(self.body)


class Served:
    """One version behind one endpoint: loaded, warm and ready."""

    def __init__(self, origin: Origin, variant: Variant, lane: Lane, tokeniser: Tokeniser, account: Account) -> None:
        self.origin = origin
        self.variant = variant
        self.schema = variant.model_schema
        self.lane = lane
        self.codec = Codec(self.schema, origin.endpoint, str(origin.version), origin.variant, tokeniser.token)
        self.records = RecordBuilder(origin)
        self.counts = account
        account.charge(lane)
        self.reading = intern(self.schema.model_dump_json())
        """Versions of one reading take each other's requests as they were read."""

    async def prove(self) -> None:
        """Write one answer to nobody: a model whose outputs cannot be written must not serve."""
        if (one := sample(self.schema, 1)) is not None:
            self.codec.encode(Request(one, 1, b"{}"), await self.lane.run(one, 1), "-")

    async def answer(self, ask: Ask, mode: Mode, application: str) -> Answer:
        """One request through the model."""
        request = self.reading_of(ask)
        outputs = await self.lane.run(request.arrays, request.rows)
        return self.answered(ask, request, outputs, mode, application)

    def read(self, ask: Ask) -> Request:
        """What a request says to this version. Raises BadInput."""
        started = time.perf_counter()
        if ask.protocol == "v2":
            ask.request = self.codec.decode(ask.body, ask.json_length)
        else:
            ask.request = mlflow.decode(ask.body, ask.protocol, self.codec, self.schema)
        ask.read_as = self.reading
        ask.reading_s = time.perf_counter() - started
        return ask.request

    def at_once(self, ask: Ask, mode: Mode, application: str) -> Answer | None:
        """The answer to a V2 request where nothing must be waited for; None: ask `answer`, which goes on from here."""
        if not self.lane.idle:
            return None
        request = self.read(ask)
        outputs = self.lane.at_once(request.arrays, request.rows)
        return None if outputs is None else self.answered(ask, request, outputs, mode, application)

    def reading_of(self, ask: Ask) -> Request:
        """The request as this version reads it, whoever read it before. Raises BadInput."""
        return ask.request if ask.request and ask.read_as is self.reading else self.read(ask)

    def read_at_once(self, ask: Ask, request: Request, mode: Mode, application: str) -> Answer | None:
        """As `at_once`, of a request that was read."""
        outputs = self.lane.at_once(request.arrays, request.rows)
        return None if outputs is None else self.answered(ask, request, outputs, mode, application)

    def answered(self, ask: Ask, request: Request, outputs: Arrays, mode: Mode, application: str) -> Answer:
        """The answer of what the model said."""
        started = time.perf_counter()
        inference_id = ask.inference_id or uuid7_text()
        encoded: Encoded = self.codec.encode(request, outputs, inference_id)
        ended = time.perf_counter()
        took = ended - ask.started
        record = self.records.record(
            inference_id=inference_id, mode=mode, application=application, received_at=ask.received_at,
            latency_ms=took * 1000, rows=request.rows, request=request.logged, response=encoded.logged,
            entity=request.entity, request_id=request.id,
            correlation_id=request.correlation_id or ask.correlation_id, traceparent=ask.traceparent,
        )  # fmt: skip
        self.counts.own_s += ask.reading_s + ended - started
        body = encoded.body if ask.protocol == "v2" else mlflow.encode(outputs, self.schema)
        return Answer(
            inference_id, self.origin.version, body, encoded.json_length, record, request.rows, self.counts, took,
            len(ask.body),
        )  # fmt: skip


@dataclass(slots=True)
class Route:
    """Who shall answer a request, and what came of it."""

    chosen: Served
    failed: Refusal | None = None
    """Why the chosen one did not."""


@dataclass(frozen=True)
class Endpoint:
    """What an endpoint serves now. Replaced as a whole, so a request sees one state from its start to its end."""

    name: str
    unit: str
    use_case: str
    revision: int
    change: DeploymentChanged
    champion: Served
    by_version: dict[int, Served]
    router: Router | None = None
    shadows: tuple[Served, ...] = ()
    fallback: Served | None = None
    plain: bool = True
    """The champion answers everything, and nobody else has to do with it."""
    barred: frozenset[int] = frozenset()
    """Versions of the state whose approvals were withdrawn."""

    @classmethod
    def of(cls, change: DeploymentChanged, served: dict[int, Served], barred: frozenset[int]) -> "Endpoint":
        """A desired state, or as much of it as serves."""
        there = [variant for variant in change.variants if variant.version in served]
        router = router_of(change, there)
        shadows = tuple(served[v.version] for v in there if v.role == "shadow")
        fallback = next((served[v.version] for v in there if v.role == "fallback"), None)
        return cls(
            change.endpoint, change.unit, change.use_case, change.revision, change, served[change.variants[0].version],
            served, router, shadows, fallback, router is None and not shadows and fallback is None, barred,
        )  # fmt: skip

    def choose(self, version: int | None) -> Served:
        """The version that was named, or the champion. Raises NotFound for one that may not serve here, Unavailable for
        one that may and is not loaded."""
        if version is None:
            return self.champion
        if version in self.by_version:
            return self.by_version[version]
        if version in self.barred:
            raise NotFound(f"the approval of version {version} at endpoint {self.name} was withdrawn")
        if any(variant.version == version for variant in self.change.variants):
            raise Unavailable(f"version {version} of endpoint {self.name} is not loaded here")
        known = ", ".join(map(str, self.by_version))
        raise NotFound(
            f"endpoint {self.name} has no version {version}; it has {known} (what is approved and deployed there)"
        )

    def route(self, ask: Ask, application: str) -> Route:
        """Who answers a request, which is read here. Raises BadInput for one that the champion does not take."""
        if ask.route and self.by_version.get(ask.route.chosen.origin.version) is ask.route.chosen:
            return ask.route
        request = self.champion.read(ask)
        chosen = self.champion
        if self.router:
            story = request.correlation_id or ask.correlation_id
            chosen = self.by_version[self.router.version(request.entity, story, application)]
        ask.route = Route(chosen)
        return ask.route

    def instead_of(self, failed: Served) -> list[Served]:
        """Who answers where one did not: the fallback, then the champion."""
        return [one for one in (self.fallback, self.champion) if one is not None and one is not failed]


@dataclass(frozen=True)
class Applied:
    """What came of a state: it serves, or its champion does."""

    missing: Refusal | CannotLoad | None = None
    """Why something beside the champion does not."""


class DataPlane:
    """The endpoints of one process. Not thread-safe: it lives on one event loop."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._keys = KeyRing(settings.keys / "public")
        self._packages = Packages(settings.run_folder.absolute(), settings.package_bytes)
        self._tokeniser = Tokeniser.of(settings.keys)
        self._limits = Limits(
            settings.inline_ms, settings.batch_rows, settings.queue_requests, settings.queue_rows, settings.cold_load_s
        )
        self.residency = Residency(settings.scorer_memory_mb, self._packages)
        self.meter = Meter()
        self.endpoints: dict[str, Endpoint] = {}
        self.stopped: dict[str, Origin] = {}
        """Endpoints that serve nothing since what served was withdrawn, with that, until a successor is up."""
        self.awaited: dict[str, Origin] = {}
        """Endpoints that shall serve and may soon, with their champions: until then they are refused for a while."""
        self._withdrawn: dict[str, frozenset[str]] = {}
        self._rewards: dict[str, tuple[str, Rewards]] = {}

    async def apply(self, change: DeploymentChanged) -> Applied:
        """Load and warm what an endpoint shall serve, then move the traffic; what served before serves until then.

        Raises Forbidden or CannotLoad, or Unavailable where it may be loaded later; and leaves the endpoint as it was.
        Where nothing served before, the champion serves even if something beside it cannot be loaded: apply it again.
        """
        admit(change, self._keys)
        before = self.endpoints.get(change.endpoint)
        if before and (change.revision < before.revision or self._is_whole(before, change)):
            return Applied()
        if change.state == "removed" or not change.variants:
            self.remove(change.endpoint)
            return Applied()
        self._bar(change)
        served: dict[int, Served] = {}
        missing: Refusal | CannotLoad | None = None
        try:
            for variant in self._standing(change):
                try:
                    served[variant.version] = await self._served(change, variant, before)
                except (Refusal, CannotLoad) as error:
                    if variant is change.variants[0] or (before and before.revision < change.revision):
                        raise
                    missing = missing or error
            self._bar(change)  # it may have been withdrawn while it was loaded
        except BaseException:  # it is tried again: each time a sandbox would stay
            _close(served, keep=before.by_version if before else {})
            raise
        self._move(change, served, before)
        return Applied(missing)

    def _is_whole(self, before: Endpoint, change: DeploymentChanged) -> bool:
        """Whether all of a state serves here already."""
        return change.revision == before.revision and all(
            variant.version in before.by_version for variant in self._standing(change)
        )

    def _move(self, change: DeploymentChanged, served: dict[int, Served], before: Endpoint | None) -> None:
        self.stopped.pop(change.endpoint, None)
        self._put(change, {v.version: served[v.version] for v in self._standing(change) if v.version in served})
        for loaded in (before.by_version if before else {}, served):
            _close(loaded, keep=self.endpoints[change.endpoint].by_version)

    def _put(self, change: DeploymentChanged, served: dict[int, Served]) -> None:
        for one in served.values():
            one.records.payload_sample = change.monitor.payload_sample
        standing = {variant.version for variant in self._standing(change)}
        barred = frozenset(variant.version for variant in change.variants) - standing
        endpoint = self.endpoints[change.endpoint] = Endpoint.of(change, served, barred)
        salt, rewards = self._rewards.get(change.endpoint, ("", {}))
        if isinstance(endpoint.router, Arms) and endpoint.router.salt == salt:
            endpoint.router.learn(rewards)

    def learn(self, endpoint: str, salt: str, rewards: Rewards) -> None:
        """What followed so far from the decisions of an endpoint's experiment, for its bandit."""
        self._rewards[endpoint] = salt, rewards
        found = self.endpoints.get(endpoint)
        if found and isinstance(found.router, Arms) and found.router.salt == salt:
            found.router.learn(rewards)

    def withdraw(self, endpoint: str, approvals: Collection[str]) -> bool:
        """Nothing serves at an endpoint under these approvals any more, nor ever will; requests in hand are finished.

        Where the champion's was withdrawn the endpoint is stopped as a whole until its next state is loaded: what takes
        its place is the deployer's to say. For what stood beside the champion it answers. Answers whether something
        was stopped now.
        """
        self._withdrawn[endpoint] = self._withdrawn.get(endpoint, frozenset()) | frozenset(approvals)
        found = self.endpoints.get(endpoint)
        if found is None:
            return False
        left = {v.version: found.by_version[v.version] for v in self._standing(found.change)
                if v.version in found.by_version}  # fmt: skip
        if len(left) == len(found.by_version):
            return False
        if found.champion.origin.version in left:
            self._put(found.change, left)
            _close(found.by_version, keep=left)
            log.info("what stood beside a champion is stopped: its approval was withdrawn", endpoint=endpoint)
            return True
        self.remove(endpoint)
        self.stopped[endpoint] = found.champion.origin
        log.info("an endpoint is stopped: the approval of what served was withdrawn", endpoint=endpoint)
        return True

    def why_stopped(self, endpoint: str) -> str:
        """For the caller of an endpoint that is stopped."""
        return f"the approval of what endpoint {endpoint} served was withdrawn; its successor is being loaded"

    def _bar(self, change: DeploymentChanged) -> None:
        """Raises Unavailable for a state whose champion's approval was withdrawn: the next state may be served."""
        if change.variants and change.variants[0] not in self._standing(change):
            if change.endpoint not in self.endpoints:
                self.stopped[change.endpoint] = _origin(change, change.variants[0])
            raise Unavailable(self.why_stopped(change.endpoint))

    def _standing(self, change: DeploymentChanged) -> list[Variant]:
        """The versions of a state whose approvals stand."""
        barred = self._withdrawn.get(change.endpoint, frozenset())
        return [v for v in change.variants if str(v.grant.statement.approval_id) not in barred]

    def remove(self, endpoint: str) -> None:
        """Stop serving an endpoint; requests in hand are finished."""
        self.stopped.pop(endpoint, None)
        if found := self.endpoints.pop(endpoint, None):
            _close(found.by_version, keep={})

    def find(self, endpoint: str, caller: Caller) -> Endpoint:
        """An endpoint that the caller may use. Raises Forbidden for one who may use none, Unavailable while it is
        loaded, or a successor of what was withdrawn, or NotFound.

        Another business unit's endpoint is answered as one that is not there: nobody learns its name here.
        """
        allow(caller, "inference.score")
        found = self.endpoints.get(endpoint)
        if found is None and endpoint in self.stopped and caller.sees(self.stopped[endpoint].unit):
            raise Unavailable(self.why_stopped(endpoint))
        if found is None and endpoint in self.awaited and caller.sees(self.awaited[endpoint].unit):
            raise Unavailable(f"endpoint {endpoint} is being loaded; try again")
        if found is None or not caller.sees(found.unit):
            raise NotFound(f"there is no endpoint {endpoint[:80]!r}")
        return found

    def _asked(self, endpoint: str, caller: Caller) -> Endpoint:
        """As `find`, for a request: while nothing serves, it is a failure of what did or what shall."""
        try:
            return self.find(endpoint, caller)
        except Unavailable as refusal:
            origin = self.stopped.get(endpoint) or self.awaited[endpoint]
            self.meter.account(origin).refuse(refusal)
            raise

    async def infer(self, endpoint: str, version: int | None, ask: Ask, caller: Caller, mode: Mode) -> Answer:
        """Answer one request. Raises a Refusal; nothing is logged of a refused request."""
        found = self._asked(endpoint, caller)
        if version is None and not found.plain:
            return await self._routed(found, ask, caller.actor, mode)
        served = found.choose(version)
        try:
            return await served.answer(ask, mode, caller.actor)
        except Refusal as refusal:
            served.counts.refuse(refusal)
            raise

    def at_once(self, endpoint: str, version: int | None, ask: Ask, caller: Caller, mode: Mode) -> Answer | None:
        """As `infer`, where nothing must be waited for; None: `infer` it."""
        found = self._asked(endpoint, caller)
        if version is None and not found.plain:
            return self._routed_at_once(found, ask, caller.actor, mode)
        served = found.choose(version)
        try:
            return served.at_once(ask, mode, caller.actor)
        except Refusal as refusal:
            served.counts.refuse(refusal)
            raise

    async def _routed(self, endpoint: Endpoint, ask: Ask, application: str, mode: Mode) -> Answer:
        """One request, by whoever is chosen for it, else by who stands in. What the champion's schema does not take is
        the caller's fault and nobody stands in; all that comes later is the chosen version's."""
        route = self._route(endpoint, ask, application)
        first = route.chosen
        for served in (first, *endpoint.instead_of(first)):
            if served is first and route.failed:
                continue
            try:
                request = served.reading_of(ask)
                outputs = await served.lane.run(request.arrays, request.rows)
                answer = served.answered(ask, request, outputs, mode, application)
            except Refusal as refusal:
                route.failed = route.failed or refusal
                continue
            if served is not first:
                first.counts.failed += 1
                answer.record.say("instead_of", first.origin.variant)
            answer.shadows = endpoint.shadows
            return answer
        assert route.failed is not None
        first.counts.refuse(route.failed)
        raise route.failed

    def _routed_at_once(self, endpoint: Endpoint, ask: Ask, application: str, mode: Mode) -> Answer | None:
        route = self._route(endpoint, ask, application)
        if not route.chosen.lane.idle:
            return None
        try:
            request = route.chosen.reading_of(ask)
            answer = route.chosen.read_at_once(ask, request, mode, application)
        except Refusal as refusal:
            route.failed = refusal
            return None
        if answer is not None:
            answer.shadows = endpoint.shadows
        return answer

    def _route(self, endpoint: Endpoint, ask: Ask, application: str) -> Route:
        try:
            return endpoint.route(ask, application)
        except Refusal as refusal:
            endpoint.champion.counts.refuse(refusal)
            raise

    async def _served(self, change: DeploymentChanged, variant: Variant, before: Endpoint | None) -> Served:
        origin = _origin(change, variant)
        same = before.by_version.get(variant.version) if before else None
        if same and same.origin == origin and _lasting(same.variant) == _lasting(variant):
            return same
        if same and same.schema == variant.model_schema and _loaded(same.variant) == _loaded(variant):
            return Served(origin, variant, same.lane, self._tokeniser, self.meter.account(origin))  # promoted, say
        account = self.meter.account(origin)
        lane = await self._load(variant, origin, account)
        try:
            served = Served(origin, variant, lane, self._tokeniser, account)
            if not lane.asleep:
                await _prove(served)
                self.residency.note(variant)
        except BaseException:
            lane.close()
            raise
        return served

    async def _load(self, variant: Variant, origin: Origin, account: Account) -> Lane:
        """Check the bytes, open the model, warm it up. Raises Refusal or CannotLoad, whatever the bytes are.

        Where memory has a budget, what this host has tried before is opened when it is asked.
        """
        limits = replace(self._limits, inline_ms=0.0) if variant.role == "shadow" else self._limits
        waking = partial(self._wake, variant, origin.unit)
        failures = Failures({"endpoint": origin.endpoint, "model": origin.model, "version": origin.version})
        lane = Lane(None, limits, joinable=joinable(variant.model_schema), waking=waking, failures=failures)
        account.charge(lane)
        if not self.residency.proven(variant):
            try:
                await lane.open()
            except BaseException:
                lane.close()
                raise
        self.residency.add(lane)
        return lane

    async def _wake(self, variant: Variant, unit: str, lane: Lane) -> None:
        await self.residency.load(lane, variant, lambda: self._open(variant, unit, lane))

    async def _open(self, variant: Variant, unit: str, lane: Lane) -> None:
        before = resident()
        try:
            unpacked = partial(self._packages.unpack, variant.digest)
            model = await asyncio.to_thread(lane.clock.run, unpacked)
            runtime = await load(variant.format, model, variant.model_schema, self._settings, unit, lane.clock)
        except (Refusal, CannotLoad):
            raise
        except OSError as error:  # no room, no descriptor: this host's trouble, and no fault of the model's
            raise Unavailable(f"the model cannot be opened now: {error.strerror or error}") from error
        except Exception as error:  # a stranger's bytes make a runtime raise anything
            log.exception("a model could not be opened", model=variant.model, version=variant.version)
            raise CannotLoad(f"the model cannot be opened ({type(error).__name__})") from None
        lane.take(runtime)
        await _warm(lane, variant)
        if variant.format == "onnx":  # memory that others left is taken without a trace, and what loading needed stays
            least = _SESSION_BYTES + model.path.stat().st_size
            lane.inside_bytes = min(max(least, resident() - before), 3 * least)


async def _warm(lane: Lane, variant: Variant) -> None:
    """Raises CannotLoad where the model fails, Unavailable where its process is away."""
    if variant.format == "external":
        return  # there is nothing to warm, and a server that is away must not hold up the rest
    try:
        one, many = sample(variant.model_schema, 1), sample(variant.model_schema, _WARM_ROWS)
        if one is not None and many is not None:
            await lane.warm(one, many, _WARM_ROWS)
    except (Busy, Unavailable):
        raise
    except Refusal as refusal:
        place = f" ({refusal.place})" if isinstance(refusal, ModelFailed) and refusal.place else ""
        raise CannotLoad(f"the model fails at its first call: {refusal.message}{place}") from None
    except Exception as error:  # a model may raise anything
        log.exception("a model could not be warmed up", model=variant.model, version=variant.version)
        raise CannotLoad(f"the model fails at its first calls ({type(error).__name__})") from None


async def _prove(served: Served) -> None:
    """Raises CannotLoad where the model's answers cannot be written, Unavailable where its process is away."""
    if served.variant.format == "external":
        return  # what it answers is read by its schema, so it can be written
    try:
        await served.prove()
    except (Busy, Unavailable):
        raise
    except Refusal as refusal:
        raise CannotLoad(refusal.message) from None
    except Exception as error:  # what a model answers may be anything
        origin = served.origin
        log.exception("a model's answers cannot be written", model=origin.model, version=origin.version)
        raise CannotLoad(f"the model's outputs are not what its schema says ({type(error).__name__})") from None


def _lasting(variant: Variant) -> Variant:
    """A version whatever its share of the requests is."""
    return variant.model_copy(update={"weight": 1.0, "cohorts": ()})


def _loaded(variant: Variant) -> tuple[str, str, bool]:
    """What a lane is of. A shadow's keeps off the event loop."""
    return variant.digest, variant.format, variant.role == "shadow"


def _origin(change: DeploymentChanged, variant: Variant) -> Origin:
    return Origin(change.endpoint, change.unit, change.use_case, variant.model, variant.version, variant.name)


def _close(served: Mapping[int, Served], keep: Mapping[int, Served]) -> None:
    kept = {id(one.lane) for one in keep.values()}
    for one in served.values():
        if id(one.lane) not in kept:
            one.lane.close()
