"""Files below a folder of this machine, and nothing else: no link on the way is followed, and none at its end.

Whoever may write in the folder does not decide what is read there. Blocking. A root has no link in it;
a path is plain parts (`plain_path`).
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISREG
from uuid import uuid4

_PIECE = 1024 * 1024
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """What lies there is no plain file of this folder."""


class Larger(Exception):
    """The file is larger than was asked for."""


def copy(root: Path, path: str, to: Path, most: int) -> os.stat_result:
    """Copy a file of at most so many bytes; answers what it was. Raises FileNotFoundError, Refused, Larger, OSError."""
    *folders, name = path.split("/")
    with _inside(root, folders) as folder:
        try:
            # Not to wait at a pipe.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            raise _told(error) from None
        try:
            about = os.fstat(file)
            _check(about, most)
            _pour(file, to, most)
        finally:
            os.close(file)
    return about


def _pour(file: int, to: Path, most: int) -> None:
    with os.fdopen(file, "rb", closefd=False) as data, to.open("wb") as copied:
        left = most
        while piece := data.read(_PIECE):
            if (left := left - len(piece)) < 0:  # it grew
                raise Larger
            copied.write(piece)


def _check(about: os.stat_result, most: int) -> None:
    if not S_ISREG(about.st_mode):
        raise Refused("it is no plain file")
    if about.st_nlink > 1:
        raise Refused("it has another name (a hard link), which may lie outside")
    if about.st_size > most:
        raise Larger


def write(root: Path, path: str, file: Path) -> None:
    """Write a file whole, in place of what has its name. Raises Refused and OSError."""
    *folders, name = path.split("/")
    with _inside(root, folders, make=True) as folder:
        made = f".{uuid4().hex}.part"
        to = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
        try:
            with os.fdopen(to, "wb") as out, file.open("rb") as data:
                while piece := data.read(_PIECE):
                    out.write(piece)
            os.replace(made, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(made, dir_fd=folder)
            raise


def found(root: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    """The plain files below a folder of it, with their paths; links are none. Raises OSError."""
    try:
        with _inside(root, prefix.split("/") if prefix else []) as folder:
            listed = os.open(".", _LISTED, dir_fd=folder)
            try:
                yield from _walked(listed, prefix)
            finally:
                os.close(listed)
    except (FileNotFoundError, Refused):
        return


def _walked(folder: int, at: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = f"{at}/{name}" if at else name
        try:
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if S_ISREG(about.st_mode):
                yield path, about
                continue
            below = os.open(name, _LISTED, dir_fd=folder)
        except OSError:
            continue  # gone since, a link, a pipe: no folder
        try:
            yield from _walked(below, path)
        finally:
            os.close(below)


@contextmanager
def _inside(root: Path, folders: list[str], *, make: bool = False) -> Iterator[int]:
    """A folder below the root, opened part by part from /: none can be exchanged for a link under way."""
    folder = os.open("/", _FOLDER)
    try:
        for place, name in enumerate([*root.parts[1:], *folders]):
            if make and place >= len(root.parts) - 1:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=folder)
            try:
                below = os.open(name, _FOLDER, dir_fd=folder)
            except OSError as error:
                raise _told(error) from None
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def _told(error: OSError) -> Exception:
    """ELOOP of a link at the end; ENOTDIR of one on the way, or of a file there; ENXIO of a socket."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return Refused("there is a link or no folder on the way to it")
    return error


def tag(about: os.stat_result) -> str:
    """The entity tag of a file: another one is another file."""
    return f'"{about.st_ino:x}-{about.st_mtime_ns // 1000:x}-{about.st_size:x}"'


def modified(about: os.stat_result) -> datetime:
    """When it was written last."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=about.st_mtime_ns // 1000)
