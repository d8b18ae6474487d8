"""Whose slot it is: a lock that ends with the process that holds it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.kit.errors import Unavailable

_LOCK_WAIT_S = 10.0


def own(folder: Path) -> int:
    """The descriptor by which a slot is ours until it is closed. Raises Unavailable where it is another process's."""
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    ends = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > ends:
                os.close(file)
                raise Unavailable(f"slot {folder.name} of the spool is held by another process") from None
            time.sleep(0.05)


@contextmanager
def unowned(folder: Path) -> Iterator[bool]:
    """Whether nobody writes to a slot; then nobody begins to before the block ends."""
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    try:
        yield free
    finally:
        os.close(file)
