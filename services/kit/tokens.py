"""Tokens that Fairlead makes itself: the embedded issuer's, for people on a laptop and for services."""

from datetime import timedelta
from pathlib import Path
from typing import Literal
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import OKPKey

from contracts import Service

from .ids import now
from .settings import Settings

ISSUER = "urn:fairlead:embedded"
AUDIENCE = "fairlead"
ALGORITHM = "Ed25519"

ONLY_HERE = "The embedded issuer's key and tokens lie in FAIRLEAD_HOME and are meant for one machine"
OTHERWISE = (
    "Set FAIRLEAD_ISSUER to your OIDC issuer; for a trial, FAIRLEAD_ALLOW_EMBEDDED_ISSUER=1 lets the embedded one "
    "vouch for everybody."
)


def key_of(path: Path) -> OKPKey:
    """The issuer's key with its thumbprint (RFC 7638) as key id."""
    key = OKPKey.import_key(path.read_bytes())
    key.ensure_kid()
    return key


def mint(
    key_path: Path,
    subject: str,
    roles: list[str],
    units: list[str],
    kind: Literal["person", "application", "service"],
    ttl: timedelta = timedelta(hours=12),
) -> str:
    """A signed token of the embedded issuer."""
    key, issued = key_of(key_path), now()
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "jti": str(uuid4()), "kind": kind,
        "iat": int(issued.timestamp()), "exp": int((issued + ttl).timestamp()), "roles": roles, "units": units,
    }  # fmt: skip
    return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])


class ServiceIdentity:
    """A service's own token, from a file that the launcher or the cluster renews."""

    def __init__(self, settings: Settings, service: Service) -> None:
        self._path = settings.home / "secrets" / "tokens" / f"{service}.jwt"

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._path.read_text().strip()}"}
