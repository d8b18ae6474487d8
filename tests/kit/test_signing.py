"""Canonical bytes and signatures."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import Forbidden
from services.kit.signing import KeyRing, Signer, canonical, key_id

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "governor.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key()
    name = key_id("governor", public)
    (tmp_path / f"{name}.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return Signer(tmp_path / "governor.key", "governor")


def test_what_was_signed_is_verified(signer: Signer, tmp_path: Path) -> None:
    KeyRing(tmp_path).verify(b"a grant", signer.sign(b"a grant"), owner="governor")


def test_other_bytes_under_the_same_signature_are_refused(signer: Signer, tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="does not fit"):
        KeyRing(tmp_path).verify(b"another grant", signer.sign(b"a grant"), owner="governor")


def test_a_right_signature_of_the_wrong_service_is_refused(signer: Signer, tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="not by a key of deployer"):
        KeyRing(tmp_path).verify(b"a grant", signer.sign(b"a grant"), owner="deployer")


def test_a_key_that_nobody_configured_is_not_trusted(signer: Signer, tmp_path: Path) -> None:
    (tmp_path / f"{signer.key_id}.pem").unlink()
    with pytest.raises(Forbidden, match="not trusted"):
        KeyRing(tmp_path).verify(b"a grant", signer.sign(b"a grant"), owner="governor")


def test_a_key_under_another_keys_name_is_refused(signer: Signer, tmp_path: Path) -> None:
    other = Ed25519PrivateKey.generate().public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / f"{signer.key_id}.pem").write_bytes(pem)
    with pytest.raises(Forbidden, match="not what its name says"):
        KeyRing(tmp_path).verify(b"a grant", signer.sign(b"a grant"), owner="governor")


@pytest.mark.parametrize("name", ["governor-../../etc/passwd", "governor-", "governor-\x00"])
def test_a_key_id_never_becomes_a_path(signer: Signer, tmp_path: Path, name: str) -> None:
    signature = signer.sign(b"x").model_copy(update={"key_id": name})
    with pytest.raises(Forbidden):
        KeyRing(tmp_path).verify(b"x", signature, owner="governor")


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_the_order_of_members_does_not_change_the_bytes(value: dict[str, object]) -> None:
    reordered = dict(reversed(list(value.items())))
    assert canonical(value) == canonical(reordered)
