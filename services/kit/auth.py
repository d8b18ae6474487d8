"""Who a token proves its bearer to be, and what each role may do."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from .context import Caller
from .errors import Forbidden, Unauthorized
from .settings import Settings
from .tokens import ALGORITHM, AUDIENCE, ISSUER

_EVERYONE = frozenset({"admin", "data-scientist", "engineer", "compliance", "executive", "service"})

# One table, one function: Cedar takes its place later, behind the same `allow`.
_ROLES: Mapping[str, frozenset[str]] = {
    "usecase.register": frozenset({"admin", "data-scientist", "engineer"}),
    "model.register": frozenset({"admin", "data-scientist", "engineer"}),
    "model.retire": frozenset({"admin", "data-scientist", "engineer", "compliance"}),
    "catalog.read": _EVERYONE,
    "deployment.request": frozenset({"admin", "data-scientist", "engineer"}),
    "deployment.read": _EVERYONE,
    "endpoint.rollback": frozenset({"admin", "engineer"}),
    "approval.decide": frozenset({"admin", "compliance"}),
    "approval.read": _EVERYONE,
    "audit.read": frozenset({"admin", "compliance", "executive", "service"}),
    "governance.read": _EVERYONE,
    "alert.acknowledge": frozenset({"admin", "engineer", "compliance", "data-scientist"}),
    "inference.score": frozenset({"admin", "application", "data-scientist", "engineer", "service"}),
    "inference.manage": frozenset({"admin", "engineer"}),
    "decision.read": _EVERYONE,
    "outcome.report": frozenset({"admin", "application", "data-scientist", "engineer", "service"}),
    "snapshot.make": frozenset({"admin", "data-scientist", "compliance", "service"}),
    "monitor.read": _EVERYONE,
    "monitor.configure": frozenset({"admin", "data-scientist", "engineer"}),
    "retraining.request": frozenset({"admin", "data-scientist", "engineer"}),
    "retraining.read": _EVERYONE,
    "topic.read": frozenset({"admin", "engineer", "compliance", "data-scientist", "executive"}),
    "deadletter.read": frozenset({"admin", "engineer"}),
    "deadletter.replay": frozenset({"admin", "engineer"}),
}
ACTIONS = tuple(_ROLES)


def allow(caller: Caller, action: str, unit: str | None = None) -> None:
    """Raise Forbidden unless one of the caller's roles may do this, in this business unit."""
    if not caller.roles & _ROLES[action]:
        may = ", ".join(sorted(_ROLES[action] - {"service"}))
        raise Forbidden(f"{caller.actor} may not do {action}: it takes one of the roles {may}")
    if unit is not None and not caller.sees(unit):
        raise Forbidden(f"{caller.actor} does not act for business unit {unit}")


_LOOK_AGAIN_S = 5.0


class Verifier:
    """Checks tokens against the issuer's keys; a token checked once is remembered until it ends."""

    _REMEMBERED = 4096

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._issuer = settings.issuer or ISSUER
        self._keys: KeySet | None = None
        self._keys_read = 0.0
        self._known: dict[str, tuple[Caller, float]] = {}
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock()),
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True}, sub={"essential": True}, jti={"essential": True},
        )  # fmt: skip

    def verify(self, token: str) -> Caller:
        """The caller that this token proves. Raises Unauthorized."""
        known = self._known.get(token)
        if known and known[1] > self._clock():
            return known[0]
        claims = self._decode(token)
        caller = _caller(claims)
        if len(self._known) >= self._REMEMBERED:
            self._known.clear()
        self._known[token] = (caller, float(claims["exp"]))
        return caller

    def bearer(self, header: str | None) -> Caller:
        """The caller of an `Authorization` header. Raises Unauthorized."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("send a token: `Authorization: Bearer …`")
        return self.verify(token.strip())

    def _decode(self, token: str) -> dict[str, Any]:
        """The checked claims. A key that is not known yet may be a new one of the issuer's: look once more."""
        while True:
            read_before = self._keys_read
            try:
                return self._checked(token, self._key_set())
            except (JoseError, ValueError) as error:
                if self._keys_read != read_before or self._clock() - self._keys_read < _LOOK_AGAIN_S:
                    raise Unauthorized(f"the token is not valid: {str(error)[:200]}") from None
            self._keys = None

    def _checked(self, token: str, keys: KeySet) -> dict[str, Any]:
        algorithms = ["ES256", "RS256", "Ed25519", "EdDSA"] if self._settings.issuer else [ALGORITHM]
        decoded = jwt.decode(token, keys, algorithms=algorithms)
        self._claims.validate(decoded.claims)
        return decoded.claims

    def _key_set(self) -> KeySet:
        if self._keys is None:
            self._keys = KeySet.import_key_set(self._read_keys())
            self._keys_read = self._clock()
        return self._keys

    def _read_keys(self) -> Any:
        if not self._settings.issuer:
            return orjson.loads((self._settings.keys / "issuer.jwks.json").read_bytes())
        discovery = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        with httpx.Client(timeout=5) as client:
            return client.get(client.get(discovery).raise_for_status().json()["jwks_uri"]).raise_for_status().json()


def _caller(claims: dict[str, Any]) -> Caller:
    kind, roles, units = claims.get("kind", "person"), claims.get("roles", []), claims.get("units", [])
    if kind not in ("person", "application", "service") or not isinstance(roles, list) or not isinstance(units, list):
        raise Unauthorized("the token's kind, roles or units are not of the expected form")
    return Caller(claims["sub"], kind, frozenset(map(str, roles)), frozenset(map(str, units)))
