"""The key by which an erased entity is recognised that is named nowhere any more."""

import os
from pathlib import Path

_BYTES = 32


def entity_key(keys: Path) -> bytes:
    """The installation's, made at the first start. Of several processes that try, the first complete file stands."""
    path = keys / "recorder-entities.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.touch(mode=0o600)
        part.write_bytes(os.urandom(_BYTES))
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return path.read_bytes()
