"""How a message is signed, and when one that did not arrive is sent again."""

import base64
import binascii
import hashlib
import hmac
from datetime import timedelta
from uuid import UUID

from services.kit.errors import Invalid

_PREFIX = "whsec_"
LONGEST_PAUSE_S = 300.0


def signature(secret: str, id: UUID, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature` of Standard Webhooks 1.0: HMAC-SHA256 over id, seconds since 1970 and body."""
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key_of(secret), signed, hashlib.sha256)).decode()


def key_of(secret: str) -> bytes:
    """The bytes of a secret: behind `whsec_` it is base64, as the libraries of the standard take it; else as it is.

    Raises Invalid, in words that hold nothing of it.
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise Invalid("signing: behind whsec_ it is no base64", "signing") from None


def pause(attempts: int, first_s: float) -> timedelta:
    """How long to wait after so many attempts: twice as long each time, five minutes at most."""
    return timedelta(seconds=min(first_s * 2.0 ** min(attempts - 1, 30), LONGEST_PAUSE_S))
