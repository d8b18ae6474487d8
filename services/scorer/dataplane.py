"""The one way from a request to an answer, under REST, stream and batch."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from contracts import DeploymentChanged, Mode, Variant
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.errors import NotFound, Refusal, TooLate, Unavailable
from services.kit.signing import KeyRing
from services.kit.telemetry import get_logger

from .admission import admit
from .endpoints import Endpoint
from .loading import Loading
from .logrecord import Origin
from .metering import Meter
from .packages import Packages
from .residency import Residency
from .routing import Arms
from .routing import Counts as Rewards
from .runtimes.errors import CannotLoad
from .served import Answer, Ask, Route, Served
from .settings import ScorerSettings

log = get_logger(__name__)


@dataclass(frozen=True)
class Applied:
    """What came of a state: it serves, or its champion does."""

    missing: Refusal | CannotLoad | None = None
    """Why something beside the champion does not."""


class DataPlane:
    """The endpoints of one process. Not thread-safe: it lives on one event loop."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._keys = KeyRing(settings.keys / "public")
        packages = Packages(settings.run_folder.absolute(), settings.package_bytes)
        self.residency = Residency(settings.scorer_memory_mb, packages)
        self.meter = Meter()
        self._loading = Loading(settings, packages, self.residency, self.meter)
        self.endpoints: dict[str, Endpoint] = {}
        self.stopped: dict[str, Origin] = {}
        """Endpoints that serve nothing since what served was withdrawn, with that, until a successor is up."""
        self.awaited: dict[str, Origin] = {}
        """Endpoints that shall serve and may soon, with their champions: until then they are refused for a while."""
        self._coming: list[dict[int, Served]] = []
        """What will serve of each state that is being loaded."""
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
        served = self._kept(change, before) if before else {}
        self._coming.append(served)
        try:
            missing = await self._load(change, served, before)
            self._bar(change)  # it may have been withdrawn while it was loaded
            self._put(change, {v.version: served[v.version] for v in self._standing(change) if v.version in served})
        finally:  # it is tried again: each time a sandbox would stay
            self._coming = [one for one in self._coming if one is not served]
            self._retire(change.endpoint, [*served.values(), *(before.by_version.values() if before else ())])
        self.stopped.pop(change.endpoint, None)
        return Applied(missing)

    async def _load(
        self, change: DeploymentChanged, served: dict[int, Served], before: Endpoint | None
    ) -> Refusal | CannotLoad | None:
        """What of a state does not serve yet; answers why something beside the champion cannot."""
        missing: Refusal | CannotLoad | None = None
        for variant in self._standing(change):
            try:
                if variant.version not in served:
                    served[variant.version] = await self._loading.loaded(change, variant)
            except (Refusal, CannotLoad) as error:
                if variant is change.variants[0] or (before and before.revision < change.revision):
                    raise
                missing = missing or error
        return missing

    def _kept(self, change: DeploymentChanged, before: Endpoint) -> dict[int, Served]:
        kept = {v.version: self._loading.kept(change, v, before) for v in self._standing(change)}
        return {version: one for version, one in kept.items() if one}

    def _is_whole(self, before: Endpoint, change: DeploymentChanged) -> bool:
        """Whether all of a state serves here already."""
        if change.revision != before.revision:
            return False
        kept = self._kept(change, before)
        return all(
            v.version in kept and kept[v.version] is before.by_version[v.version] for v in self._standing(change)
        )

    def _retire(self, endpoint: str, served: Iterable[Served]) -> None:
        """Close the lanes of an endpoint that nobody serves on and no state that is being loaded will."""
        serving = self.endpoints[endpoint].by_version.values() if endpoint in self.endpoints else ()
        going_on = {id(one.lane) for one in (*serving, *(one for each in self._coming for one in each.values()))}
        for one in served:
            if id(one.lane) not in going_on:
                one.lane.close()

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
            self._retire(endpoint, found.by_version.values())
            log.info("what stood beside a champion is stopped: its approval was withdrawn", endpoint=endpoint)
            return True
        self.remove(endpoint)
        self.stopped[endpoint] = found.champion.origin
        log.info("an endpoint is stopped: the approval of what served was withdrawn", endpoint=endpoint)
        return True

    def why_stopped(self, endpoint: str) -> str:
        """For the caller of an endpoint that is stopped."""
        return f"the approval of what endpoint {endpoint} served was withdrawn; its successor is being loaded"

    def why_awaited(self, endpoint: str) -> str:
        """For the caller of an endpoint that serves nothing yet."""
        return f"endpoint {endpoint} is being loaded; try again"

    def _bar(self, change: DeploymentChanged) -> None:
        """Raises Unavailable for a state whose champion's approval was withdrawn: the next state may be served."""
        if change.variants and change.variants[0] not in self._standing(change):
            if change.endpoint not in self.endpoints:
                self.stopped[change.endpoint] = Origin.of(change, change.variants[0])
            raise Unavailable(self.why_stopped(change.endpoint))

    def _standing(self, change: DeploymentChanged) -> list[Variant]:
        """The versions of a state whose approvals stand."""
        barred = self._withdrawn.get(change.endpoint, frozenset())
        return [v for v in change.variants if str(v.grant.statement.approval_id) not in barred]

    def remove(self, endpoint: str) -> None:
        """Stop serving an endpoint; requests in hand are finished."""
        self.stopped.pop(endpoint, None)
        if found := self.endpoints.pop(endpoint, None):
            self._retire(endpoint, found.by_version.values())

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
            raise Unavailable(self.why_awaited(endpoint))
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
                outputs = await served.lane.run(request.arrays, request.rows, ask.left_s(request), request.params)
                answer = served.answered(ask, request, outputs, mode, application)
            except Refusal as refusal:
                route.failed = route.failed or refusal
                if isinstance(refusal, TooLate):
                    break
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
