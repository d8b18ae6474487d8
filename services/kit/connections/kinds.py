"""What a connection leads to: a server over HTTPS, or a folder of an object store."""

import ssl
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

import httpx
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url
from pydantic import Field, SecretStr, StringConstraints, field_validator

from contracts import Name

from ..errors import Unavailable
from ..hosts import is_this_machine
from .secret import Secret, Strict, values, without

UrlPath = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*)*/?$", max_length=500)]
"""A path below a connection's URL: plain parts, so that none leads out of it."""
_Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$")]
_Option = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,100}$")]
_Seconds = Annotated[float, Field(gt=0, le=600)]
_BUCKETS = ("s3", "gs", "az", "abfs", "abfss")


class Called(Strict):
    """What all connections say."""

    name: Name
    units: tuple[Name, ...] | None = None
    """The business units that may use it; None: all."""

    def serves(self, unit: str) -> bool:
        """Whether a business unit may use it."""
        return self.units is None or unit in self.units


class HttpsConnection(Called):
    """A server that is called over HTTPS."""

    kind: Literal["https"]
    url: str
    headers: dict[_Header, SecretStr | Secret] = {}
    signing: (
        SecretStr | Secret | Annotated[tuple[SecretStr | Secret, ...], Field(min_length=1, max_length=2)] | None
    ) = None
    """What signs messages that this platform sends by itself, so that the server can tell who speaks; two while one
    takes the other's place."""
    ca: Path | None = None
    """Certificates of the authorities that vouch for it, as PEM; None: those of the machine."""
    connect_s: _Seconds = 3.0
    timeout_s: _Seconds = 10.0
    """How long it may be silent."""

    @field_validator("url")
    @classmethod
    def _is_plain(cls, given: str) -> str:
        split = _web_address(given)
        if split.query or split.fragment:
            raise ValueError("a query or fragment cannot be part of it")
        return given.rstrip("/")

    def at(self, path: str) -> str:
        """The URL of a path below it, a `UrlPath`."""
        return self.url + path

    def client(self) -> httpx.AsyncClient:
        """A client that goes nowhere else: it follows no redirect and asks no proxy of the environment.

        Raises Unavailable where the certificates cannot be read. Headers are given with each request.
        """
        try:
            trust = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        except (OSError, ssl.SSLError) as error:
            raise Unavailable(f"connection {self.name}: ca: {self.ca} cannot be read ({error})") from None
        timeout = httpx.Timeout(self.timeout_s, connect=self.connect_s)
        return httpx.AsyncClient(verify=trust, timeout=timeout, follow_redirects=False, trust_env=False)

    def secrets(self) -> dict[str, str]:
        """The headers, with the values that they have now. Raises Unavailable naming one that has none."""
        return values(self.name, "headers", self.headers)

    def signing_secrets(self) -> list[str]:
        """The secrets that sign what is sent, as they are now; none where there are none. Raises Unavailable."""
        if self.signing is None:
            return []
        if isinstance(self.signing, tuple):
            return [*values(self.name, "signing", {str(n): each for n, each in enumerate(self.signing)}).values()]
        return [*values(self.name, "signing", {"secret": self.signing}).values()]


class ObjectsConnection(Called):
    """A folder of an object store. The path of its URL comes before every name in it."""

    kind: Literal["objects"]
    url: str
    endpoint: str | None = None
    """The store's own address, where it is not the provider's."""
    options: dict[_Option, SecretStr | Secret] = {}
    """As obstore calls them: `region`, `access_key_id`, `secret_access_key`, `skip_signature` …"""
    timeout_s: _Seconds = 30.0

    @field_validator("url")
    @classmethod
    def _is_a_store(cls, given: str) -> str:
        split = urlsplit(given)
        if split.scheme not in (*_BUCKETS, "file"):
            raise ValueError(f"is none of {', '.join(f'{scheme}://' for scheme in (*_BUCKETS, 'file'))}")
        if split.query or split.fragment or "@" in split.netloc:
            raise ValueError("login, query or fragment cannot be part of it")
        if split.scheme == "file" and (split.netloc or not split.path.startswith("/")):
            raise ValueError("a folder is written file:///folder")
        if split.scheme != "file" and not split.netloc:
            raise ValueError("names no bucket")
        return given

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, given: str | None) -> str | None:
        if given is not None:
            _web_address(given)
        return given

    def folder(self) -> Path | None:
        """The folder of this machine that it is; None for a bucket."""
        split = urlsplit(self.url)
        return Path(unquote(split.path)) if split.scheme == "file" else None

    def files(self) -> Path | None:
        """The folder that `beneath.py` reads; None for a bucket. Raises Unavailable where it is not there."""
        if (folder := self.folder()) and not folder.is_dir():
            raise Unavailable(f"connection {self.name}: url: there is no folder {folder}")
        return folder

    def store(self) -> ObjectStore:
        """The store of a bucket. Raises Unavailable naming what does not fit."""
        said: dict[str, Any] = values(self.name, "options", self.options)
        is_plain = False
        if self.endpoint:
            said["endpoint"], is_plain = self.endpoint, urlsplit(self.endpoint).scheme == "http"
        try:
            limits = {"timeout": f"{self.timeout_s:g}s", "allow_http": is_plain}
            return from_url(self.url, config=said, client_options=limits)  # pyright: ignore
        except (BaseError, ValueError, TypeError) as error:
            raise Unavailable(f"connection {self.name}: options: {without(said, error)}") from None


def _web_address(given: str) -> SplitResult:
    """Raises ValueError for what is no HTTPS address, nor one of this machine."""
    split = urlsplit(given)
    if not split.hostname or split.scheme not in ("https", "http") or any(ord(letter) <= 32 for letter in given):
        raise ValueError("is not a URL such as https://host.example/path")
    if split.username is not None or split.password is not None:
        raise ValueError("a login cannot be part of it: use headers")
    if split.scheme == "http" and not is_this_machine(split.hostname):
        raise ValueError("must be https: only a server on this machine may be called by plain http")
    return split
