"""V2's model repository: what a caller finds here, and whether it would be answered."""

from collections.abc import Iterator
from typing import Literal

from services.kit.auth import allow
from services.kit.context import Caller

from .dataplane import DataPlane
from .endpoints import Endpoint

State = Literal["READY", "LOADING", "UNAVAILABLE"]
Listed = dict[str, str]
"""`name`, `version`, `state`, and the `reason` where it is not READY."""


def index(plane: DataPlane, caller: Caller, *, ready_only: bool = False) -> list[Listed]:
    """The versions behind the endpoints of a caller's units. A model that sleeps is READY: it is opened for a request.

    Raises Forbidden for one who may use none.
    """
    allow(caller, "inference.score")
    found = [one for endpoint in plane.endpoints.values() if caller.sees(endpoint.unit) for one in _versions(endpoint)]
    for name, origin in plane.stopped.items():
        if caller.sees(origin.unit):
            found.append(_said(name, origin.version, "UNAVAILABLE", plane.why_stopped(name)))
    for name, origin in plane.awaited.items():
        if name not in plane.endpoints and name not in plane.stopped and caller.sees(origin.unit):
            found.append(_said(name, origin.version, "LOADING", plane.why_awaited(name)))
    return [one for one in found if one["state"] == "READY"] if ready_only else found


def _versions(endpoint: Endpoint) -> Iterator[Listed]:
    for variant in endpoint.change.variants:
        if variant.version in endpoint.by_version:
            away = endpoint.by_version[variant.version].lane.away
            yield _said(endpoint.name, variant.version, "UNAVAILABLE" if away else "READY", away)
        elif variant.version not in endpoint.barred:
            yield _said(endpoint.name, variant.version, "UNAVAILABLE", "it is not loaded here")


def _said(name: str, version: int, state: State, reason: str) -> Listed:
    return {"name": name, "version": str(version), "state": state, "reason": reason}
