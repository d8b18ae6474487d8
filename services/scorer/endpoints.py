"""What an endpoint serves now, and who of it answers a request."""

from dataclasses import dataclass

from contracts import DeploymentChanged
from services.kit.errors import NotFound, Unavailable

from .routing import Router, router_of
from .served import Ask, Route, Served


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

    @property
    def away(self) -> str:
        """Why a request that names no version is refused; empty where one would be tried."""
        instead = self.fallback is not None and not self.fallback.lane.away
        return "" if instead else self.champion.lane.away

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
