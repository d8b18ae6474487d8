"""Which service answers which path: the console's address serves for all of them."""

from contracts import Service

_PREFIXES: dict[str, Service] = {
    "/v1/use-cases": "catalog",
    "/v1/models": "catalog",
    "/v1/exports": "catalog",
    "/v1/imports": "catalog",
    "/v1/lineage": "catalog",
    "/v1/shadow": "catalog",
    "/v1/deployments": "deployer",
    "/v1/endpoints": "deployer",
    "/v1/approvals": "governor",
    "/v1/processes": "governor",
    "/v1/templates": "governor",
    "/v1/policies": "governor",
    "/v1/audit": "governor",
    "/v1/reports": "governor",
    "/v1/webhooks": "governor",
    "/v1/alerts": "governor",
    "/v1/alert-routes": "governor",
    "/v1/alert-messages": "governor",
    "/v1/alert-silences": "governor",
    "/v1/kpis": "governor",
    "/.well-known": "governor",
    "/v2": "scorer",
    "/invocations": "scorer",
    "/v1/explanations": "scorer",
    "/v1/batches": "scorer",
    "/v1/inferences": "scorer",
    "/v1/monitors": "monitor",
    "/v1/retrainings": "retrainer",
    "/v1/reproductions": "retrainer",
    "/v1/replays": "retrainer",
    "/v1/decisions": "recorder",
    "/v1/outcomes": "recorder",
    "/v1/snapshots": "recorder",
    "/v1/erasures": "recorder",
}
_API = frozenset(prefix.split("/")[1] for prefix in _PREFIXES)


def service_of(path: str) -> Service | None:
    """The service behind a path, by its first parts; None for a path that no service answers."""
    parts = path.split("/")
    if any(part in (".", "..") for part in parts):
        return None
    if path.startswith("/v1/models/") and path.endswith(
        ":predict"
    ):  # KServe's first protocol; models are the catalog's
        return "scorer"
    for length in (3, 2):
        if service := _PREFIXES.get("/".join(parts[:length])):
            return service
    return None


def is_api(path: str) -> bool:
    """Whether a program is meant to ask here, not a person before a window."""
    return path.split("/")[1] in _API


_HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
_OURS = frozenset({
    b"host", b"cookie", b"expect", b"x-csrf-token", b"forwarded", b"x-forwarded-for", b"fairlead-correlation-id",
    b"traceparent",
})  # fmt: skip

Headers = list[tuple[bytes, bytes]]


def onward(headers: Headers) -> Headers:
    """Request headers to pass on: not those of this connection, nor those meant for the console itself."""
    return [*_without(headers, _OURS), (b"x-forwarded-for", b"console")]


def back(headers: Headers) -> Headers:
    """Response headers to hand back. The console says its own correlation id and who serves."""
    return _without(headers, frozenset({b"set-cookie", b"server", b"date", b"fairlead-correlation-id"}))


def _without(headers: Headers, dropped: frozenset[bytes]) -> Headers:
    named = {
        part.strip().lower() for name, value in headers if name.lower() == b"connection" for part in value.split(b",")
    }
    gone = _HOP_BY_HOP | dropped | named
    return [(name, value) for name, value in headers if name.lower() not in gone]
