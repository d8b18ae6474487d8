"""A mail server that takes messages for recipients whom an administrator allowed."""

import re
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, field_validator

from ..errors import Unavailable
from ..hosts import is_this_machine
from .kinds import Called
from .secret import Secret, values

# No question mark: `=?` begins an encoded word, which may hold an end of line or another address (RFC 2047).
_LOCAL, _DOMAIN = r"[A-Za-z0-9!#$%&'*+/=^_`{|}~.-]{1,64}", r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?"
Address = Annotated[str, StringConstraints(pattern=rf"^{_LOCAL}@{_DOMAIN}$", max_length=254)]
"""A plain address, `ops@bank.example`: no name, no comment, nothing that could end a header."""
_Allowed = Annotated[str, StringConstraints(pattern=rf"^(\*|{_LOCAL})@{_DOMAIN}$", max_length=254)]
_PORTS = {"smtp": 587, "smtps": 465}


class SmtpConnection(Called):
    """A server that is spoken to by SMTP: under TLS, but for one on this machine for which no `ca` vouches."""

    kind: Literal["smtp"]
    url: str
    """`smtp://host:587` becomes TLS by STARTTLS before anything is told, `smtps://host:465` is from the start."""
    sender: Address
    recipients: Annotated[tuple[_Allowed, ...], Field(min_length=1)]
    """Who may be written to: addresses, and `*@bank.example` for all of a domain."""
    username: str | None = None
    password: SecretStr | Secret | None = None
    ca: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    """How long it may be silent."""

    @field_validator("url")
    @classmethod
    def _is_plain(cls, given: str) -> str:
        split = urlsplit(given)
        try:
            port = split.port
        except ValueError:
            raise ValueError("its port is no number up to 65535") from None
        if split.scheme not in _PORTS or not split.hostname or port == 0 or re.search(r"[\x00-\x20]", given):
            raise ValueError("is not a URL such as smtp://mail.example:587 or smtps://mail.example")
        if split.username is not None or split.path.strip("/") or split.query or split.fragment:
            raise ValueError("login, path, query or fragment cannot be part of it: there are username and password")
        return given

    def allows(self, address: str) -> bool:
        """Whether it may write to somebody. Domains are the same in any case, as mail has them."""
        local, _, domain = address.rpartition("@")
        return any(
            domain.lower() == theirs.lower() and name in ("*", local)
            for name, _, theirs in (one.rpartition("@") for one in self.recipients)
        )

    def send(self, message: EmailMessage, to: Sequence[str]) -> dict[str, str]:
        """Hand a message over to these recipients, whatever its headers say. Blocking.

        Answers the recipients that the server did not take, and its status.

        Raises smtplib's errors, OSError, and Unavailable where password or certificates cannot be read.
        """
        split, trust = urlsplit(self.url), self._trust()
        host, port = split.hostname or "", split.port or _PORTS[split.scheme]
        password = values(self.name, "password", {"secret": self.password})["secret"] if self.password else ""
        made = (
            smtplib.SMTP_SSL(host, port, timeout=self.timeout_s, context=trust)
            if split.scheme == "smtps"
            else smtplib.SMTP(host, port, timeout=self.timeout_s)
        )
        with made as server:
            server.ehlo()
            if split.scheme == "smtp" and (self.ca or not is_this_machine(host)):
                server.starttls(context=trust)
                server.ehlo()
            if self.username is not None:
                server.login(self.username, password)
            refused = server.send_message(message, self.sender, list(to))
        return {address: str(status) for address, (status, _) in refused.items()}

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        except (OSError, ssl.SSLError) as error:
            raise Unavailable(f"connection {self.name}: ca: {self.ca} cannot be read ({error})") from None
