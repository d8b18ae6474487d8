"""The temporary folder of a worker, which goes with it, or with the next worker when its parent was killed."""

import fcntl
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "fairlead-sandbox-"
_YOUNG_S = 60.0


@dataclass(frozen=True)
class Scratch:
    """A folder and the lock that says that its parent lives: the kernel lets go of it with the process."""

    path: Path
    lock: int

    @classmethod
    def make(cls) -> "Scratch":
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(path, lock)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def sweep() -> None:
    """Remove what parents that were killed have left."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone since it was listed, or somebody else's
        try:
            # A young one may not be locked yet.
            if time.time() - os.fstat(fd).st_ctime > _YOUNG_S:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue  # its parent lives
        finally:
            os.close(fd)
