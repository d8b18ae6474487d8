"""What is to outlast a power loss."""

import errno
import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Write to the disk which names a folder has: a file that is synced and whose name is not is lost all the same.

    A file system that knows no such thing keeps names in its own way.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(folder)
