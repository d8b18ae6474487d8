"""Who a token proves its bearer to be, and what each role may do."""

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from contracts import SERVICES

from .context import Caller
from .errors import Forbidden, Invalid, Unauthorized
from .inputs import check_texts
from .issuer import FileKeys, IssuerKeys, Keys
from .settings import Settings
from .tokens import ALGORITHM, AUDIENCE, ISSUER

_EVERYONE = frozenset({"admin", "data-scientist", "engineer", "compliance", "executive", "service"})

# One table, one function: Cedar takes its place later, behind the same `allow`.
ROLES: Mapping[str, frozenset[str]] = {
    "usecase.register": frozenset({"admin", "data-scientist", "engineer"}),
    "model.register": frozenset({"admin", "data-scientist", "engineer"}),
    "model.retire": frozenset({"admin", "data-scientist", "engineer", "compliance"}),
    "catalog.read": _EVERYONE,
    "deployment.request": frozenset({"admin", "data-scientist", "engineer"}),
    "deployment.read": _EVERYONE,
    "endpoint.rollback": frozenset({"admin", "engineer"}),
    "endpoint.configure": frozenset({"admin", "engineer"}),
    "approval.decide": frozenset({"admin", "compliance"}),
    "approval.read": _EVERYONE,
    "audit.read": frozenset({"admin", "compliance", "executive", "service"}),
    "governance.read": _EVERYONE,
    "alert.acknowledge": frozenset({"admin", "engineer", "compliance", "data-scientist"}),
    "alert.close": frozenset({"admin", "compliance"}),
    "alert.configure": frozenset({"admin", "engineer"}),
    "inference.score": frozenset({"admin", "application", "data-scientist", "engineer", "service"}),
    "inference.explain": frozenset({*_EVERYONE, "application"}),
    "inference.manage": frozenset({"admin", "engineer"}),
    "inference.import": frozenset({"admin", "application", "engineer", "service"}),
    "decision.read": _EVERYONE,
    "decision.erase": frozenset({"admin", "compliance"}),
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


def allow(caller: Caller, action: str, unit: str | None = None) -> None:
    """Raise Forbidden unless one of the caller's roles may do this, in this business unit."""
    if not caller.roles & ROLES[action]:
        may = ", ".join(sorted(ROLES[action] - {"service"}))
        raise Forbidden(f"{caller.actor} may not do {action}: it takes one of the roles {may}")
    if unit is not None and not caller.sees(unit):
        raise Forbidden(f"{caller.actor} does not act for business unit {unit}")


_ELSEWHERE = ("ES256", "RS256", "Ed25519", "EdDSA")
_LONGEST_SUBJECT = 255
"""As OpenID Connect has it; indexes of the ledger and of idempotency keys hold it whole."""
_SERVICE = frozenset({"service"})
_SERVICES = frozenset(f"service:{service}" for service in SERVICES)


@dataclass(frozen=True)
class _Issuer:
    """Whose tokens are taken, with which algorithms and keys."""

    name: str
    algorithms: tuple[str, ...]
    keys: Keys
    for_services_only: bool = False


class Verifier:
    """Checks tokens against the issuer's keys; a token checked once is remembered until it ends.

    Services always prove themselves by the embedded key. With an issuer elsewhere that key proves nobody else.
    """

    _REMEMBERED = 4096
    _REMEMBERED_S = 300.0
    """At the longest: then a key that the issuer took back ends what it signed."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time, outside: Keys | None = None) -> None:
        self._clock = clock
        self._known: dict[str, tuple[Caller, float]] = {}
        own = FileKeys(settings.keys / "issuer.jwks.json", clock)
        self._issuers = {ISSUER: _Issuer(ISSUER, (ALGORITHM,), own, for_services_only=bool(settings.issuer))}
        if settings.issuer:
            keys = outside or IssuerKeys(settings.issuer)
            self._issuers[settings.issuer] = _Issuer(settings.issuer, _ELSEWHERE, keys)

    def verify(self, token: str) -> Caller:
        """The caller that this token proves. Raises Unauthorized, or Unavailable where nobody can tell yet."""
        known = self._known.get(token)
        if known and known[1] > self._clock():
            return known[0]
        issuer = self._issuer_of(token)
        claims = self._decode(token, issuer)
        caller = _caller(claims)
        _check_subject(caller, issuer)
        if len(self._known) >= self._REMEMBERED:
            self._known.clear()
        self._known[token] = (caller, min(caller.expires, self._clock() + self._REMEMBERED_S))
        return caller

    def bearer(self, header: str | None) -> Caller:
        """The caller of an `Authorization` header; several are joined by commas, as HTTP says. Raises Unauthorized."""
        scheme, _, token = (header or "").partition(" ")
        if "," in token:  # a proxy in front may have checked another one of them
            raise Unauthorized("send one Authorization header, not several")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("send a token: `Authorization: Bearer …`")
        return self.verify(token.strip())

    def presented(self, header: str | None) -> Caller:
        """As `bearer`, and for a sender that knows a URL and no header the token may be its password. Raises
        Unauthorized."""
        scheme, _, encoded = (header or "").partition(" ")
        return self.verify(_password(encoded)) if scheme.lower() == "basic" else self.bearer(header)

    def _issuer_of(self, token: str) -> _Issuer:
        """The issuer that the token names; whether it is so is checked with that one's keys alone."""
        try:
            body = token.split(".")[1]
            named = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))).get("iss")
        except (ValueError, LookupError, AttributeError):
            raise Unauthorized("the token is not valid: it is no JWT") from None
        if not isinstance(named, str) or named not in self._issuers:
            wanted = next(reversed(self._issuers))
            raise Unauthorized(f"the token is not valid: its issuer (iss) is not {wanted}")
        return self._issuers[named]

    def _decode(self, token: str, issuer: _Issuer) -> dict[str, Any]:
        """The checked claims. A key that is not known yet may be a new one of the issuer's: look once more."""
        keys = issuer.keys.current()
        try:
            try:
                return self._checked(token, issuer, keys)
            except InvalidKeyIdError:
                if not issuer.keys.renewed(keys):
                    raise
            return self._checked(token, issuer, issuer.keys.current())
        except (JoseError, ValueError) as error:
            raise Unauthorized(f"the token is not valid: {str(error)[:200]}") from None

    def _checked(self, token: str, issuer: _Issuer, keys: KeySet) -> dict[str, Any]:
        claims = jwt.decode(token, keys, algorithms=[*issuer.algorithms]).claims
        jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            iss={"essential": True, "value": issuer.name},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True}, sub={"essential": True}, jti={"essential": True},
        ).validate(claims)  # fmt: skip
        return claims


def _password(encoded: str) -> str:
    try:
        _, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthorized("the Authorization header is no Basic one: send a token as its password") from None
    return password


def _check_subject(caller: Caller, issuer: _Issuer) -> None:
    """Services prove themselves by the embedded key, and where people have another issuer it proves nobody else."""
    is_service = caller.actor in _SERVICES
    if issuer.for_services_only and not (is_service and caller.kind == "service" and caller.roles == _SERVICE):
        raise Unauthorized("the token is not valid: here the embedded issuer proves services only")
    if is_service and issuer.name != ISSUER:
        raise Unauthorized("the token is not valid: only this platform's own key proves its services")


def _caller(claims: dict[str, Any]) -> Caller:
    kind, roles, units = claims.get("kind", "person"), claims.get("roles", []), claims.get("units", [])
    if kind not in ("person", "application", "service") or not isinstance(roles, list) or not isinstance(units, list):
        raise Unauthorized("the token's kind, roles or units are not of the expected form")
    if any("," in str(unit) for unit in units):  # PostgreSQL is told them as one list
        raise Unauthorized("the token names a business unit with a comma")
    if not isinstance(claims["sub"], str) or not 1 <= len(claims["sub"]) <= _LONGEST_SUBJECT:
        raise Unauthorized(f"the token's subject (sub) is not a text of 1 to {_LONGEST_SUBJECT} characters")
    try:
        check_texts([claims["sub"], roles, units], "token")
    except Invalid as error:
        raise Unauthorized(error.message) from None
    return Caller(
        claims["sub"], kind, frozenset(map(str, roles)), frozenset(map(str, units)), expires=float(claims["exp"])
    )
