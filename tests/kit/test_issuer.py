"""An OIDC issuer elsewhere: its keys come beside the event loop, and services still prove themselves."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey

from services.kit.auth import Verifier
from services.kit.embedded import EmbeddedIssuer, check_embedded
from services.kit.errors import Unauthorized, Unavailable
from services.kit.issuer import LOOK_AGAIN_S, IssuerKeys, fetch_keys
from services.kit.settings import Settings
from services.kit.testing import eventually
from services.kit.tokens import ALGORITHM, AUDIENCE, key_of, mint

ELSEWHERE = "https://issuer.example"


def new_key() -> ECKey:
    key = ECKey.generate_key("P-256")
    key.ensure_kid()
    return key


def token(key: ECKey, **claims: object) -> str:
    usual = {"iss": ELSEWHERE, "aud": AUDIENCE, "sub": "ann", "jti": "1", "exp": int(time.time()) + 600,
             "roles": ["engineer"], "units": ["retail"]}  # fmt: skip
    return jwt.encode({"alg": "ES256", "kid": key.kid}, usual | claims, key, algorithms=["ES256"])


class Issuer:
    """Stands where the issuer's HTTP would."""

    def __init__(self) -> None:
        self.keys = [new_key()]
        self.asked = 0
        self.away = False
        self.answering = threading.Event()
        self.answering.set()

    def fetch(self, _: str) -> KeySet:
        self.asked += 1
        self.answering.wait(10)
        if self.away:
            raise ValueError("away")
        return KeySet([*self.keys])


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "keys").mkdir()
    key = OKPKey.generate_key("Ed25519")
    (tmp_path / "keys" / "issuer.key").write_bytes(key.as_pem(private=True))
    public = key_of(tmp_path / "keys" / "issuer.key").as_dict(private=False)
    (tmp_path / "keys" / "issuer.jwks.json").write_text(json.dumps({"keys": [public]}))
    return Settings(home=tmp_path, issuer=ELSEWHERE)


@pytest.fixture
def verifier(settings: Settings, issuer: Issuer, clock: list[float]) -> Verifier:
    keys = IssuerKeys(ELSEWHERE, issuer.fetch, lambda: clock[0])
    return Verifier(settings, outside=keys)


async def proven(verifier: Verifier, token: str) -> str:
    """The actor, once the keys have come."""

    def tried() -> str | None:
        try:
            return verifier.verify(token).actor
        except Unavailable:
            return None

    return str(await eventually(tried))


async def test_an_issuer_elsewhere_vouches_for_people(verifier: Verifier, issuer: Issuer) -> None:
    assert await proven(verifier, token(issuer.keys[0])) == "ann"


async def test_nobody_waits_for_an_issuer_that_does_not_answer(
    settings: Settings, issuer: Issuer, clock: list[float]
) -> None:
    issuer.answering.clear()
    verifier = Verifier(settings, outside=IssuerKeys(ELSEWHERE, issuer.fetch, lambda: clock[0]))
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(Unavailable, match="could not be reached"):
            verifier.verify(token(issuer.keys[0]))
    assert time.monotonic() - began < 5
    issuer.answering.set()
    assert await proven(verifier, token(issuer.keys[0])) == "ann"
    assert issuer.asked == 1


async def test_the_last_good_keys_serve_while_the_issuer_is_away(
    verifier: Verifier, issuer: Issuer, clock: list[float]
) -> None:
    await proven(verifier, token(issuer.keys[0]))
    issuer.away = True
    clock[0] += 3600
    assert verifier.verify(token(issuer.keys[0], jti="2")).actor == "ann"
    await eventually(lambda: issuer.asked == 2)
    assert verifier.verify(token(issuer.keys[0], jti="3")).actor == "ann"


async def test_a_new_key_of_the_issuer_is_found(verifier: Verifier, issuer: Issuer, clock: list[float]) -> None:
    await proven(verifier, token(issuer.keys[0]))
    issuer.keys.append(new_key())
    clock[0] += LOOK_AGAIN_S
    assert await proven(verifier, token(issuer.keys[1])) == "ann"


async def test_tokens_with_made_up_keys_do_not_make_us_hammer_the_issuer(
    verifier: Verifier, issuer: Issuer, clock: list[float]
) -> None:
    await proven(verifier, token(issuer.keys[0]))
    clock[0] += LOOK_AGAIN_S
    strangers = [new_key() for _ in range(20)]
    for stranger in strangers:
        with pytest.raises((Unauthorized, Unavailable)):
            verifier.verify(token(stranger))
    await eventually(lambda: _refused(verifier, token(strangers[0])))
    assert issuer.asked == 2


def _refused(verifier: Verifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except Unauthorized:
        return True
    except Unavailable:
        return False
    return False


def test_services_prove_themselves_by_the_embedded_key(verifier: Verifier, settings: Settings) -> None:
    made = mint(settings.keys / "issuer.key", "service:retrainer", ["service"], ["*"], "service")
    assert verifier.verify(made).actor == "service:retrainer"


@pytest.mark.parametrize(
    ("subject", "roles", "kind"),
    [
        ("admin", ["admin"], "person"),
        ("service:retrainer", ["service", "admin"], "service"),
        ("service:stranger", ["service"], "service"),
        ("service:retrainer", ["service"], "person"),
    ],
)
def test_the_embedded_key_proves_nobody_else_then(
    verifier: Verifier, settings: Settings, subject: str, roles: list[str], kind: Any
) -> None:
    with pytest.raises(Unauthorized, match="services only"):
        verifier.verify(mint(settings.keys / "issuer.key", subject, roles, ["*"], kind))


async def test_an_issuer_elsewhere_proves_no_service(verifier: Verifier, issuer: Issuer) -> None:
    await proven(verifier, token(issuer.keys[0]))
    with pytest.raises(Unauthorized, match="own key"):
        verifier.verify(token(issuer.keys[0], sub="service:governor", kind="service", roles=["service"]))


async def test_one_issuers_key_signs_nothing_in_the_others_name(
    verifier: Verifier, issuer: Issuer, settings: Settings
) -> None:
    await proven(verifier, token(issuer.keys[0]))
    own = key_of(settings.keys / "issuer.key")
    claims = {"iss": ELSEWHERE, "aud": AUDIENCE, "sub": "eve", "jti": "1", "exp": 4_000_000_000, "roles": ["admin"]}
    forged = jwt.encode({"alg": ALGORITHM, "kid": own.kid}, claims, own, algorithms=[ALGORITHM])
    assert await eventually(lambda: _refused(verifier, forged), within=10)


@pytest.mark.parametrize("subject", ["a\0b", 7, None])
async def test_a_subject_that_cannot_be_stored_proves_nobody(verifier: Verifier, issuer: Issuer, subject: Any) -> None:
    await proven(verifier, token(issuer.keys[0]))
    with pytest.raises(Unauthorized):
        verifier.verify(token(issuer.keys[0], sub=subject))


# Over HTTP


@pytest.fixture
def answers() -> dict[str, Any]:
    return {}


@pytest.fixture
def url(answers: dict[str, Any]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(found if isinstance(found, bytes) else json.dumps(found).encode())

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_keys_are_found_by_discovery(url: str, answers: dict[str, Any]) -> None:
    key = new_key()
    answers["/.well-known/openid-configuration"] = {"issuer": url, "jwks_uri": f"{url}/jwks"}
    odd = [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "quantum"}, {**new_key().as_dict(private=False), "use": "enc"}]
    answers["/jwks"] = {"keys": [*odd, key.as_dict(private=False)]}
    assert [found.kid for found in fetch_keys(url).keys] == [key.kid]


@pytest.mark.parametrize(
    ("discovery", "jwks"),
    [
        ({"issuer": "https://another.example", "jwks_uri": "{url}/jwks"}, {"keys": []}),
        ({"issuer": "{url}", "jwks_uri": "{url}/nothing"}, {"keys": []}),
        ({"issuer": "{url}", "jwks_uri": "file:///etc/passwd"}, {"keys": []}),
        ({"issuer": "{url}", "jwks_uri": "{url}/jwks"}, {"keys": []}),
        ({"issuer": "{url}", "jwks_uri": "{url}/jwks"}, b" " * (2 * 1024 * 1024)),
        ({"issuer": "{url}"}, {"keys": []}),
        ([], {"keys": []}),
    ],
)
async def test_an_issuer_that_answers_nonsense_is_as_good_as_away(
    url: str, answers: dict[str, Any], discovery: Any, jwks: Any
) -> None:
    answers["/.well-known/openid-configuration"] = json.loads(json.dumps(discovery).replace("{url}", url))
    answers["/jwks"] = jwks
    keys = IssuerKeys(url)
    await eventually(lambda: not keys._asking)
    with pytest.raises(Unavailable):
        keys.current()


# Where the embedded issuer may vouch for people


@pytest.mark.parametrize(
    ("servers", "database", "here"),
    [
        ("127.0.0.1:9092", "postgresql://a:b@127.0.0.1:5432/fairlead", True),
        ("localhost:9092,[::1]:9093", "postgresql://a:b@localhost/fairlead", True),
        ("kafka.example:9092", "postgresql://a:b@127.0.0.1:5432/fairlead", False),
        ("127.0.0.1:9092", "postgresql://a:b@10.0.0.7:5432/fairlead", False),
        ("127.0.0.1:9092", "postgresql://a:b@/fairlead?host=db.example", False),
        ("127.0.0.1:9092", "postgresql://a:b@localhost:5432,db.example/fairlead", False),
        ("127.0.0.1:9092", "postgresql://a:b@[::1]:5432/fairlead?host=/run/postgresql", True),
    ],
)
def test_the_embedded_issuer_is_for_one_machine(tmp_path: Path, servers: str, database: str, here: bool) -> None:
    properties = tmp_path / "client.properties"
    properties.write_text(f"bootstrap.servers={servers}\n")
    given: dict[str, Any] = {"kafka_properties": properties, "service_database": database}
    if here:
        check_embedded(Settings(**given))
    else:
        with pytest.raises(EmbeddedIssuer, match=r"FAIRLEAD_ISSUER.*FAIRLEAD_ALLOW_EMBEDDED_ISSUER"):
            check_embedded(Settings(**given))
    check_embedded(Settings(**given, issuer=ELSEWHERE))
    check_embedded(Settings(**given, allow_embedded_issuer=True))
