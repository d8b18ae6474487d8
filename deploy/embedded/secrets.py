"""Passwords, keys and tokens of the embedded platform: made at first start, for this machine only."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from secrets import token_urlsafe
from typing import Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from contracts import SERVICES
from services.kit import properties
from services.kit.rights import PRINCIPALS
from services.kit.signing import key_id
from services.kit.tokens import key_of, mint

from .home import Home, write_json, write_private
from .problem import Problem

LAUNCHER, CONTROLLER, ADMINISTRATOR = "launcher", "controller", "administrator"
"""The embedded broker's own two principals, and the login that somebody gives for a cluster of theirs."""
KEY_OWNERS = ("issuer", "governor", "deployer")
TOKEN_TTL = timedelta(hours=12)
RENEWED_EVERY = timedelta(hours=3)


class Identity(NamedTuple):
    """Who a token is for and what it allows."""

    roles: list[str]
    units: list[str]
    kind: Literal["person", "application"] = "person"


PEOPLE: Mapping[str, Identity] = {
    "admin": Identity(["admin"], ["*"]),
    "data-scientist": Identity(["data-scientist"], ["retail"]),
    "engineer": Identity(["engineer"], ["retail"]),
    "compliance": Identity(["compliance"], ["*"]),
    "executive": Identity(["executive"], ["*"]),
    "application": Identity(["application"], ["retail"], "application"),
    "other-unit": Identity(["engineer"], ["wealth"]),
}


def make_secrets(home: Home) -> None:
    """Create every secret that is missing; those that are there stay."""
    home.make_folders()
    for name in ("postgres.password", "kafka/controller.password"):
        if not (home.secrets / name).exists():
            write_private(home.secrets / name, token_urlsafe(24))
    for owner in KEY_OWNERS:
        _make_key(home, owner)
    issuer = key_of(home.keys / "issuer.key").as_dict(private=False)
    write_json(home.keys / "issuer.jwks.json", {"keys": [{**issuer, "use": "sig"}]})


def _make_key(home: Home, owner: str) -> None:
    """An Ed25519 key pair; public keys of earlier ones stay trusted."""
    path = home.keys / f"{owner}.key"
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(path, pem.decode())
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise Problem(f"{path} is not an Ed25519 key", "Restore the key; without it earlier signatures cannot be made.")
    public = key.public_key()
    named = home.keys / "public" / f"{key_id(owner, public)}.pem"
    if not named.exists():
        write_private(named, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def write_tokens(home: Home, *, people: bool = True) -> None:
    """Fresh tokens for the services, and for the people of the embedded issuer where no other vouches for them."""
    key = home.keys / "issuer.key"
    for who, identity in PEOPLE.items():
        if not people:
            (home.path / "tokens" / f"{who}.jwt").unlink(missing_ok=True)
            continue
        token = mint(key, who, identity.roles, identity.units, identity.kind, TOKEN_TTL)
        write_private(home.path / "tokens" / f"{who}.jwt", token)
    for service in SERVICES:
        token = mint(key, f"service:{service}", ["service"], ["*"], "service", TOKEN_TTL)
        write_private(home.secrets / "tokens" / f"{service}.jwt", token)


def write_clients(home: Home, shared: Mapping[str, str]) -> None:
    """Kafka client properties for every principal, with `shared` (address, protocol) and a password that stays."""
    for principal in PRINCIPALS:
        path = home.client_properties(principal)
        password = read_properties(path).get("sasl.password") or token_urlsafe(24)
        write_private(path, _client(shared, principal, password))


def write_embedded_clients(home: Home) -> None:
    """As `write_clients`, for the embedded broker, and the launcher's own."""
    shared = {
        "bootstrap.servers": f"127.0.0.1:{home.kafka_port}",
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-256",
    }
    write_clients(home, shared)
    launcher = home.client_properties(LAUNCHER)
    password = read_properties(launcher).get("sasl.password") or token_urlsafe(24)
    write_private(launcher, _client(shared, LAUNCHER, password))


def _client(shared: Mapping[str, str], principal: str, password: str) -> str:
    lines = dict(shared)
    if lines.get("security.protocol", "").startswith("SASL") and "sasl.username" not in lines:
        lines |= {"sasl.username": principal, "sasl.password": password}
    return "".join(f"{name}={value}\n" for name, value in lines.items())


def read_client_properties(home: Home, principal: str) -> dict[str, str]:
    """A principal's client properties; none where they were not written yet."""
    return read_properties(home.client_properties(principal))


def read_properties(path: Path) -> dict[str, str]:
    """Client properties; none where there is no file."""
    with suppress(FileNotFoundError):
        return properties.read(path)
    return {}


def database_urls(home: Home) -> dict[str, str]:
    """The URL of every service's own role, as `services.kit.migrate` wrote them."""
    return json.loads((home.secrets / "database.json").read_text())
