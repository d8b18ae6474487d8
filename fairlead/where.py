"""Where the platform is and who is asking: from arguments, the environment or the platform's home."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from .errors import Misconfigured


@dataclass(frozen=True)
class Place:
    """The platform's address, and the token to show there (read anew when its file is renewed)."""

    url: str
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None

    def bearer(self) -> str:
        """The token of this moment; the launcher renews the files in the home before they expire."""
        if self.token:
            return _fit(self.token, "FAIRLEAD_TOKEN or the token that was given")
        if self.token_file is None:
            raise Misconfigured(
                "no token: set FAIRLEAD_TOKEN, or FAIRLEAD_AS to a name in the platform's tokens folder"
            )
        try:
            return _fit(self.token_file.read_text(errors="replace"), str(self.token_file))
        except OSError as error:
            raise Misconfigured(
                f"cannot read the token {self.token_file}: {error.strerror}. Is the platform up (make up), "
                f"and is FAIRLEAD_AS one of its people?"
            ) from error


def find(
    url: str | None = None, token: str | None = None, home: str | Path | None = None, acting_as: str | None = None
) -> Place:
    """Find the platform: arguments first, then FAIRLEAD_URL and FAIRLEAD_TOKEN, then FAIRLEAD_HOME's files.

    With a home, FAIRLEAD_AS names the person to act as (default `admin`).
    """
    base = Path(home or os.environ.get("FAIRLEAD_HOME") or ".fairlead")
    token = token or os.environ.get("FAIRLEAD_TOKEN")
    who = acting_as or os.environ.get("FAIRLEAD_AS") or "admin"
    address = url or os.environ.get("FAIRLEAD_URL") or _address_in(base)
    return Place(_http(address), token, None if token else base / "tokens" / f"{who}.jwt")


def _fit(token: str, where: str) -> str:
    """A token as it travels in a header: printable ASCII in one piece."""
    token = token.strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise Misconfigured(f"{where} holds no token: a token is one word of ASCII characters")
    return token


def _http(address: str) -> str:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise Misconfigured(f"{address!r} is not the address of a platform: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise Misconfigured(f"{address!r} is not the address of a platform: it is like http://127.0.0.1:8080")
    return address.rstrip("/")


def _address_in(home: Path) -> str:
    path = home / "endpoints.json"
    try:
        return str(json.loads(path.read_text())["console"])
    except FileNotFoundError:
        raise Misconfigured(
            f"no platform found: {path} is not there. Start one (make up), "
            f"or set FAIRLEAD_HOME, or FAIRLEAD_URL and FAIRLEAD_TOKEN"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(f"{path} is not a platform's address list: {error}") from error
