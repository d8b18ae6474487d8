"""The public keys that tokens are checked with: the embedded issuer's file, or an OIDC issuer's over HTTP."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import orjson
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, KeySet

from .errors import Unavailable
from .telemetry import get_logger

log = get_logger(__name__)

LOOK_AGAIN_S = 5.0
"""Keys are looked up at most so often, however many tokens name keys that nobody knows."""
_STALE_S = 300.0
"""After this long the issuer is asked again, so that a key that it took back ends."""
_WITHIN_S, _CONNECT_S = 10.0, 3.0
_LARGEST = 1024 * 1024

Clock = Callable[[], float]


class Keys(Protocol):
    """Where the keys of one issuer come from."""

    def current(self) -> KeySet:
        """The keys to check with. Raises Unavailable where there never were any."""
        ...

    def renewed(self, seen: KeySet) -> bool:
        """Look again for a key that is not among those seen; whether there are others by now.

        Raises Unavailable while the looking goes on.
        """
        ...


class FileKeys:
    """The embedded issuer's keys, read again at most every few seconds."""

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._keys: KeySet | None = None
        self._read_at = 0.0

    def current(self) -> KeySet:
        if self._keys is None:
            self._read()
        assert self._keys is not None
        return self._keys

    def renewed(self, seen: KeySet) -> bool:
        if self._clock() - self._read_at < LOOK_AGAIN_S:
            return False
        self._read()
        return True

    def _read(self) -> None:
        try:
            self._keys = _key_set(orjson.loads(self._path.read_bytes()))
        except (OSError, ValueError) as error:
            raise Unavailable(f"the keys of the embedded issuer cannot be read: {type(error).__name__}") from error
        self._read_at = self._clock()


class IssuerKeys:
    """The keys of an issuer elsewhere, fetched by a thread of their own: no request waits for the issuer.

    The last good keys serve while it is away. Safe for concurrent callers.
    """

    def __init__(
        self, issuer: str, fetch: Callable[[str], KeySet] | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch or fetch_keys
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._asked_at = -LOOK_AGAIN_S
        self._asking = False
        self._ask(LOOK_AGAIN_S)

    def current(self) -> KeySet:
        # Without keys each caller's try is a reason to ask; with keys only their age is.
        self._ask(_STALE_S if self._keys else LOOK_AGAIN_S)
        if self._keys is None:
            raise Unavailable(f"the issuer {self._issuer} could not be reached yet; try again")
        return self._keys

    def renewed(self, seen: KeySet) -> bool:
        if self._keys is not seen:
            return True
        if self._ask(LOOK_AGAIN_S) or self._asking:
            raise Unavailable("the token's key is not known yet and the issuer is being asked; try again")
        return False

    def _ask(self, at_most_every_s: float) -> bool:
        """Have the keys fetched, unless that goes on or was done just now; whether it was begun."""
        with self._lock:
            if self._asking or self._clock() - self._asked_at < at_most_every_s:
                return False
            self._asking, self._asked_at = True, self._clock()
        threading.Thread(target=self._renew, name="issuer-keys", daemon=True).start()
        return True

    def _renew(self) -> None:
        try:
            self._keys = self._fetch(self._issuer)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
            log.warning("the issuer's keys cannot be fetched", issuer=self._issuer, error=repr(error)[:300])
        finally:
            self._asking = False


def fetch_keys(issuer: str) -> KeySet:
    """What the issuer publishes (OpenID Connect Discovery 1.0). Raises HTTPError or ValueError."""
    with httpx.Client(timeout=httpx.Timeout(_WITHIN_S, connect=_CONNECT_S)) as client:
        told = _document(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if told["issuer"].rstrip("/") != issuer.rstrip("/"):
            raise ValueError(f"the issuer calls itself {told['issuer']}")
        return _key_set(_document(client, told["jwks_uri"]))


def _document(client: httpx.Client, url: str) -> Any:
    """A JSON document, bounded in size and in time however slowly it drips."""
    deadline, data = time.monotonic() + _WITHIN_S, b""
    with client.stream("GET", url) as answer:
        answer.raise_for_status()
        for part in answer.iter_bytes():
            data += part
            if len(data) > _LARGEST or time.monotonic() > deadline:
                raise ValueError(f"{url} is too large or too slow")
    return orjson.loads(data)


def _key_set(document: Any) -> KeySet:
    """The keys that signatures can be checked with; kinds that are not known here are passed over."""
    usable = [key for each in document["keys"] if (key := _signing_key(each)) is not None]
    if not usable:
        raise ValueError("the issuer publishes no key for signatures")
    return KeySet(usable)


def _signing_key(described: dict[str, Any]) -> Any:
    if described.get("kty") == "oct" or described.get("use", "sig") != "sig":
        return None
    try:
        key = JWKRegistry.import_key(described)
    except (JoseError, ValueError):
        return None
    key.ensure_kid()
    return key
