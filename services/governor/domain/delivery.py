"""How a message is signed, and when one that did not arrive is sent again."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services.kit.errors import Invalid

_PREFIX = "whsec_"
LONGEST_PAUSE_S = 300.0


def signatures(secrets: Sequence[str], id: UUID, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature` of Standard Webhooks 1.0: HMAC-SHA256 over id, seconds since 1970 and body,
    one for each secret, with spaces between them. Raises Invalid for a secret that is none."""
    signed = f"{id}.{timestamp}.".encode() + body
    made = (hmac.digest(key_of(secret), signed, hashlib.sha256) for secret in secrets)
    return " ".join("v1," + base64.b64encode(each).decode() for each in made)


def key_of(secret: str) -> bytes:
    """The bytes of a secret: behind `whsec_` it is base64, as the libraries of the standard take it; else as it is.

    Raises Invalid, in words that hold nothing of it.
    """
    if not secret.startswith(_PREFIX):
        return _kept(secret.encode())
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:  # what is not ASCII is none of binascii's errors
        raise Invalid("signing: behind whsec_ it is no base64", "signing") from None
    return _kept(key)


def _kept(key: bytes) -> bytes:
    if not key:
        raise Invalid("signing: it is empty, and anybody could sign with that", "signing")
    return key


def pause(attempts: int, first_s: float) -> timedelta:
    """How long to wait after so many attempts: twice as long each time, five minutes at most."""
    return timedelta(seconds=min(first_s * 2.0 ** min(attempts - 1, 30), LONGEST_PAUSE_S))
