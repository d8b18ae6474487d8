"""Canonical bytes, digests and Ed25519 signatures (RFC 8032) of what must not change unnoticed."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel

from contracts import Signature

from .errors import Forbidden


def canonical(value: BaseModel | dict[str, Any], *, without: frozenset[str] = frozenset()) -> bytes:
    """One byte sequence for one value: JSON with sorted keys and no spaces; top-level members can be left out."""
    data = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
    return orjson.dumps({k: v for k, v in data.items() if k not in without}, option=orjson.OPT_SORT_KEYS)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def key_id(owner: str, key: Ed25519PublicKey) -> str:
    """`<owner>-<12 hex digits of the key's sha256>`: says whose key it is and which one."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"{owner}-{hashlib.sha256(raw).hexdigest()[:12]}"


class Signer:
    """Signs with one private key, kept as PEM with mode 0600."""

    def __init__(self, path: Path, owner: str) -> None:
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path.name} is not an Ed25519 key")
        self._key = key
        self.key_id = key_id(owner, key.public_key())

    def sign(self, data: bytes) -> Signature:
        return Signature(key_id=self.key_id, value=base64.b64encode(self._key.sign(data)).decode())


class KeyRing:
    """The public keys that this installation trusts, from configuration and never from a topic; old ones stay."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[str, Ed25519PublicKey] = {}

    def verify(self, data: bytes, signature: Signature, owner: str) -> None:
        """Check that `owner` signed these bytes. Raises Forbidden with the reason."""
        if not signature.key_id.startswith(f"{owner}-"):
            raise Forbidden(f"signed by {signature.key_id}, not by a key of {owner}")
        try:
            self._key(signature.key_id).verify(base64.b64decode(signature.value, validate=True), data)
        except (InvalidSignature, ValueError):
            raise Forbidden(f"the signature of {signature.key_id} does not fit the content") from None

    def _key(self, name: str) -> Ed25519PublicKey:
        if name not in self._keys:
            path = self._folder / f"{name}.pem"
            if path.parent != self._folder or not path.is_file():
                raise Forbidden(f"key {name} is not trusted here")
            key = load_pem_public_key(path.read_bytes())
            if not isinstance(key, Ed25519PublicKey) or key_id(name.rsplit("-", 1)[0], key) != name:
                raise Forbidden(f"key {name} is not what its name says")
            self._keys[name] = key
        return self._keys[name]
