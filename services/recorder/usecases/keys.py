"""The key by which an erased entity is recognised that is named nowhere any more."""

from pathlib import Path

from services.kit.keys import own_key


def entity_key(keys: Path) -> bytes:
    """The installation's, made at the first start."""
    return own_key(keys / "recorder-entities.key")
