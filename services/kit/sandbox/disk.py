"""What a sandboxed process has on disk: in its folders, and in files that it deleted and still holds."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from stat import S_ISREG

MOST_FILES = 10_000
_BLOCK = 512
_DELETED = b" (deleted)\n"

Inode = tuple[int, int]


class Hidden(Exception):
    """It has something on disk that cannot be measured."""


def too_much(folders: Sequence[Path], pid: int, most_mb: int) -> str:
    """Why a process with these folders is beyond its bounds; empty while it is within them."""
    try:
        left, files = most_mb * 1024 * 1024, MOST_FILES
        for size, names in _listed(folders):
            left, files = left - size, files - names
            if left < 0 or files < 0:
                return f"wrote more than {most_mb} MB or {MOST_FILES} files"
        left -= _held(folders, pid)
    except Hidden as error:
        return str(error)
    return "" if left >= 0 else f"wrote more than {most_mb} MB, of which it deleted files that it holds"


def _listed(folders: Sequence[Path]) -> Iterator[tuple[int, int]]:
    """Bytes and number of files of each folder in the folders."""
    for folder in folders:
        for at, _, names in os.walk(folder, onerror=_refuse_what_hides):
            yield sum(_size(os.path.join(at, name)) for name in names), 1 + len(names)  # noqa: PTH118


def _refuse_what_hides(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise Hidden("made a folder that cannot be listed")


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * _BLOCK
    except OSError:
        return 0  # gone since it was listed


def _held(folders: Sequence[Path], pid: int) -> int:
    """Bytes of files without a name that the process has open or mapped; 0 where this process may not look.

    The filter lets no thread have descriptors of its own, so one living thread tells of all. Nor is there a socket to
    send a descriptor into.
    """
    for thread in _entries(f"/proc/{pid}/task"):
        if open_files := _entries(f"{thread}/fd"):
            found = _open(open_files)
            return sum(found.values()) + sum(_mapped(folders, pid, thread, found))
    return 0


def _entries(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]  # noqa: PTH208 - a thousand times a second
    except OSError:
        return []


def _open(files: Sequence[str]) -> dict[Inode, int]:
    found: dict[Inode, int] = {}
    for file in files:
        try:
            about = os.stat(file)  # noqa: PTH116
        except OSError:
            continue  # closed since, or not to be looked at
        if about.st_nlink == 0 and S_ISREG(about.st_mode):
            found[about.st_dev, about.st_ino] = about.st_blocks * _BLOCK
    return found


def _mapped(folders: Sequence[Path], pid: int, thread: str, known: dict[Inode, int]) -> Iterator[int]:
    """Bytes of files that are mapped alone. Raises Hidden for one whose size the kernel does not tell."""
    try:
        maps = Path(f"{thread}/maps").read_bytes()
    except OSError:
        return
    if _DELETED not in maps:
        return
    ours = tuple(os.fsencode(folder) for folder in folders)
    for line in maps.splitlines(keepends=True):
        fields = line.split(None, 5)
        if not line.endswith(_DELETED) or not fields[5].startswith(ours):
            continue
        major, minor = (int(half, 16) for half in fields[3].split(b":"))
        if any(ino == int(fields[4]) for _, ino in known):
            continue
        try:
            about = os.stat(f"/proc/{pid}/map_files/{fields[0].decode()}")  # noqa: PTH116
        except OSError:
            raise Hidden("maps a file that it deleted and closed") from None
        known[os.makedev(major, minor), int(fields[4])] = size = about.st_blocks * _BLOCK
        yield size
