"""Tokens: who they prove their bearer to be, and what never passes for a proof."""

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import OctKey

from services.kit.auth import ROLES, Verifier, allow
from services.kit.context import Caller
from services.kit.errors import Forbidden, Unauthorized
from services.kit.settings import Settings
from services.kit.tokens import ALGORITHM, AUDIENCE, ISSUER, key_of, mint


@pytest.fixture
def issuer(tmp_path: Path) -> Settings:
    """A home with an issuer of its own."""
    keys = tmp_path / "keys"
    keys.mkdir()
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (keys / "issuer.key").write_bytes(pem)
    public = key_of(keys / "issuer.key").as_dict(private=False)
    (keys / "issuer.jwks.json").write_text(json.dumps({"keys": [public]}))
    return Settings(home=tmp_path)


def token(issuer: Settings, **claims: object) -> str:
    key = key_of(issuer.keys / "issuer.key")
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "engineer", "jti": "1", "exp": 4_000_000_000, "kind": "person",
             "roles": ["engineer"], "units": ["retail"]}  # fmt: skip
    kept = {name: value for name, value in (usual | claims).items() if value is not None}
    return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, kept, key, algorithms=[ALGORITHM])


def test_a_token_proves_who_its_bearer_is(issuer: Settings) -> None:
    made = mint(issuer.keys / "issuer.key", "engineer", ["engineer"], ["retail"], "person")
    caller = Verifier(issuer).bearer(f"Bearer {made}")
    assert caller == Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"}))


@pytest.mark.parametrize("missing", ["iss", "aud", "sub", "exp", "jti"])
def test_a_token_without_a_required_claim_is_refused(issuer: Settings, missing: str) -> None:
    with pytest.raises(Unauthorized, match=missing):
        Verifier(issuer).verify(token(issuer, **{missing: None}))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"iss": "another"},
        {"exp": 1},
        {"roles": "admin"},
        {"kind": "god"},
        {"units": ["a,*"]},
        {"sub": ""},
        {"sub": "a" * 256},
        {"sub": "a" * 100_000},
    ],
)
def test_a_token_for_something_else_is_refused(issuer: Settings, claims: dict[str, object]) -> None:
    with pytest.raises(Unauthorized):
        Verifier(issuer).verify(token(issuer, **claims))


def test_a_caller_carries_the_end_of_the_token(issuer: Settings) -> None:
    verifier, made = Verifier(issuer), token(issuer, exp=4_000_000_000)
    assert [verifier.verify(made).expires for _ in range(2)] == [4_000_000_000.0] * 2


def test_a_token_that_ended_is_refused_though_it_was_known(issuer: Settings) -> None:
    made = mint(issuer.keys / "issuer.key", "engineer", ["engineer"], ["retail"], "person", timedelta(minutes=1))
    clock = [0.0]

    def now() -> float:
        import time

        return time.time() + clock[0]

    verifier = Verifier(issuer, now)
    assert verifier.verify(made).actor == "engineer"
    clock[0] = 120.0
    with pytest.raises(Unauthorized):
        verifier.verify(made)


def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(issuer: Settings) -> None:
    public = json.loads((issuer.keys / "issuer.jwks.json").read_text())["keys"][0]
    secret = OctKey.import_key(base64.urlsafe_b64decode(public["x"] + "="))
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "admin", "jti": "1", "exp": 4_000_000_000, "roles": ["admin"]}
    forged = jwt.encode({"alg": "HS256", "kid": public["kid"]}, claims, secret, algorithms=["HS256"])
    with pytest.raises(Unauthorized):
        Verifier(issuer).verify(forged)


def test_a_token_without_a_signature_is_refused(issuer: Settings) -> None:
    _, body, _ = token(issuer).split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    with pytest.raises(Unauthorized):
        Verifier(issuer).verify(f"{head}.{body}.")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer a.b.c", "Bearer " + "x" * 5000])
def test_what_is_no_bearer_token_is_refused(issuer: Settings, header: str | None) -> None:
    with pytest.raises(Unauthorized):
        Verifier(issuer).bearer(header)


def test_only_who_may_decide_approvals_may() -> None:
    allow(Caller("compliance", "person", frozenset({"compliance"}), frozenset({"*"})), "approval.decide", "retail")
    with pytest.raises(Forbidden, match="admin, compliance"):
        allow(Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"})), "approval.decide", "retail")


def test_a_role_ends_at_its_business_unit() -> None:
    engineer = Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"}))
    allow(engineer, "deployment.request", "retail")
    with pytest.raises(Forbidden, match="wealth"):
        allow(engineer, "deployment.request", "wealth")


@pytest.mark.parametrize("action", ROLES)
def test_a_caller_without_a_role_may_do_nothing(action: str) -> None:
    with pytest.raises(Forbidden):
        allow(Caller("stranger", "person", frozenset(), frozenset({"*"})), action)
