"""Ids for what is sandboxed, each of one process on this host: the kernel bounds threads by id.

An id is a byte of one file, locked by whoever starts the sandbox (OFD locks, fcntl(2)): the lock goes with its
descriptor, however its owner ends.
"""

import errno
import fcntl
import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import randrange

from .errors import SandboxError

FIRST, IDS = 61184, 4096
"""What Linux leaves to services that come and go, below the 65,536 ids that a container may have."""
_FOLDER = Path("/run")
_NAME = "fairlead-sandbox-ids"
_LOCK = struct.Struct("hhqqi4x")
"""`struct flock`: kind, whence, start, length, pid (0)."""


@dataclass(frozen=True)
class Uid:
    """An id that nobody else has until it is given back."""

    number: int
    lock: int

    @classmethod
    def take(cls) -> "Uid":
        """Raises SandboxError when all are taken, OSError where there is no place to say so."""
        file = _opened()
        try:
            start = randrange(IDS)
            for step in range(IDS):
                if _locked(file, number := FIRST + (start + step) % IDS):
                    return cls(number, file)
            raise SandboxError(f"{IDS} sandboxes live on this machine: no id is left for another one")
        except BaseException:
            os.close(file)
            raise

    def give_back(self) -> None:
        """To be called when no process has it any longer."""
        os.close(self.lock)


def _locked(file: int, number: int) -> bool:
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _opened() -> int:
    """The file, opened anew: a lock belongs to the opening. Only root takes ids, so only root may have made it."""
    folder = _FOLDER if os.access(_FOLDER, os.W_OK) else Path(tempfile.gettempdir())
    file = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.fstat(file).st_uid != os.geteuid():
        os.close(file)
        raise PermissionError(
            errno.EPERM, "somebody else made the file that says who has which id", str(folder / _NAME)
        )
    return file
