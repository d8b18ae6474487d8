"""Archives that strangers made: read member by member with caps, written by ourselves, never extracted."""

import errno
import gzip
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

from services.kit.errors import FULL, Invalid, NoRoom, TooLarge, Unavailable

from . import tar

_CHUNK = 256 * 1024
_RATIO_FLOOR = 16 * 1024 * 1024
"""Below this size a high compression ratio is no danger (a sparse model compresses well)."""

_BROKEN = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError, ValueError, OverflowError,
    NotImplementedError, RuntimeError,
)  # fmt: skip
"""What the standard library raises on archives that are broken, cut, encrypted or crafted."""


@dataclass(frozen=True)
class Caps:
    """How much an archive may hold."""

    members: int = 1_000
    member_bytes: int = 1024 * 1024 * 1024
    total_bytes: int = 2 * 1024 * 1024 * 1024
    ratio: int = 200
    name_length: int = 200


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    content: _Readable


def unpack(archive: Path, folder: Path, caps: Caps) -> list[str]:
    """Write the regular files of a zip or tar.gz below `folder`; answers their names.

    Raises Invalid naming the member that is not allowed, TooLarge where a cap is passed.
    """
    with archive.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        entries = _zip(file, caps) if magic.startswith(b"PK") else _tar_gz(file, caps)
        try:
            return _write_all(entries, folder, archive.stat().st_size, caps)
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise NoRoom("there is no room to unpack the archive; nothing was registered") from error
            if isinstance(error, OSError) and error.errno == errno.EIO:
                raise Unavailable("the disk does not take the archive; nothing was registered") from error
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise Invalid(f"the archive cannot be read: {reason}", "package") from None


def write(folder: Path, names: Iterable[str], to: Path) -> None:
    """The canonical zip of some files: sorted, dated alike, so that equal content gives equal bytes."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(names):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(info, "w") as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)


def _zip(file: BinaryIO, caps: Caps) -> Iterator[_Entry]:
    check_directory(file, caps.members * (46 + 3 * caps.name_length + 256))
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > caps.members:
            raise TooLarge(f"the archive has {len(infos)} members, at most {caps.members} are taken")
        for info in infos:
            if info.is_dir():
                _checked(info.filename.rstrip("/"), caps)
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise Invalid(f"{info.filename[:100]!r} is a link or a device: only regular files are taken", "package")
            if info.flag_bits & 0x1:
                raise Invalid(f"{info.filename[:100]!r} is encrypted", "package")
            with archive.open(info) as content:
                yield _Entry(info.filename, info.file_size, content)


def check_directory(file: BinaryIO, limit: int) -> None:
    """Refuse a huge table of contents before the standard library reads it into memory."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 65_557))
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) < place + 22:
        raise Invalid("the zip has no table of contents: it is cut off or not a zip", "package")
    if tail[:place].endswith(b"PK\6\7", 0, max(0, place - 16)):
        raise Invalid("zip64 archives are not taken: nothing in the caps needs them", "package")
    (size,) = struct.unpack("<L", tail[place + 12 : place + 16])
    if size > limit:
        raise TooLarge(f"the zip's table of contents has {size} bytes, at most {limit} are taken")
    file.seek(0)


def _tar_gz(file: BinaryIO, caps: Caps) -> Iterator[_Entry]:
    with gzip.GzipFile(fileobj=file) as inflated:
        stream = cast(IO[bytes], _Capped(cast(IO[bytes], inflated), caps.total_bytes + caps.members * 4096))
        for count, entry in enumerate(tar.entries(stream)):
            if count >= caps.members:
                raise TooLarge(f"the archive has more than {caps.members} members")
            if entry.is_file:
                yield _Entry(entry.name, entry.size, entry.content)
            elif not entry.is_folder:
                raise Invalid(f"{entry.name[:100]!r} is a link or a device: only regular files are taken", "package")
            elif entry.name not in (".", "./"):
                _checked(entry.name.rstrip("/"), caps)
        while stream.read(_CHUNK):
            pass  # to its end: only there gzip checks its sum


class _Capped:
    """Reads until a cap is passed: a small gzip cannot make us inflate for ever."""

    def __init__(self, source: IO[bytes], left: int) -> None:
        self._source = source
        self._left = left

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(min(size, _CHUNK) if size >= 0 else _CHUNK)
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge("the archive inflates to more than is taken")
        return data


def _write_all(entries: Iterable[_Entry], folder: Path, packed: int, caps: Caps) -> list[str]:
    names: dict[str, str] = {}
    total = 0
    for entry in entries:
        name = _checked(entry.name, caps)
        # A case-insensitive file system would let one file replace another.
        if (folded := name.casefold()) in names:
            raise Invalid(f"{name[:100]!r} is in the archive twice", "package")
        names[folded] = name
        allowed = min(caps.member_bytes, caps.total_bytes - total)
        total += _write(entry, folder / name, allowed, packed, total, caps)
    if not names:
        raise Invalid("the archive holds no file", "package")
    return list(names.values())


def _write(entry: _Entry, to: Path, allowed: int, packed: int, before: int, caps: Caps) -> int:
    """Copy one member, counting what really comes out and not what its header says."""
    to.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with to.open("xb") as file:
        while chunk := entry.content.read(_CHUNK):
            written += len(chunk)
            if written > allowed:
                raise TooLarge(f"{entry.name[:100]!r} makes the archive larger than is taken")
            if before + written > max(_RATIO_FLOOR, packed * caps.ratio):
                raise TooLarge(f"the archive inflates more than {caps.ratio} times: that is a bomb")
            file.write(chunk)
    if written != entry.size:
        raise Invalid(f"{entry.name[:100]!r} is cut: {written} of {entry.size} bytes are there", "package")
    return written


def _checked(name: str, caps: Caps) -> str:
    """A relative path of plain parts. Raises Invalid otherwise."""
    parts = name.removeprefix("./").split("/")
    unprintable = any(ord(letter) < 32 or letter in "\\:\x7f" or 0xD800 <= ord(letter) <= 0xDFFF for letter in name)
    if unprintable or len(name) > caps.name_length or len(parts) > 10:
        raise Invalid(f"the member name {name[:100]!a} is not allowed", "package")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise Invalid(f"{name[:100]!r} leaves the archive's folder or is not a plain relative path", "package")
    return "/".join(parts)
