"""What lies in a package: each file by its first bytes, and what lies in archives and compressed files, by theirs."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, cast

from services.kit.errors import Invalid

from .. import tar
from .arrays import Unreadable, array_at
from .unnamed import builds

Kind = Literal["archive", "hdf5", "notebook", "numbers", "pickle", "python", "text", "closed"]

_Packed = tuple[str, IO[bytes] | None]
"""A member's name and content; None: it is no plain file."""

LAMBDA = (b'"class_name": "Lambda"', b'"class_name":"Lambda"')
"""How a Keras model names, in plain text, a layer that is code."""
_DEEPEST = 4
_MOST_OF_ONE = 256 * 1024 * 1024
_MOST_OF_ALL = 2 * 1024 * 1024 * 1024
_HEAD = 512
_CHUNK = 1024 * 1024
_NUMPY = b"\x93NUM"
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".dill", ".npy")
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, NotImplementedError, RuntimeError,
    Invalid,
)  # fmt: skip
_PACKED: tuple[tuple[bytes, Callable[[IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda file: cast(IO[bytes], gzip.GzipFile(fileobj=file))),
    (b"BZh", lambda file: cast(IO[bytes], bz2.BZ2File(file))),
    (b"\xfd7zXZ", lambda file: cast(IO[bytes], lzma.LZMAFile(file))),  # noqa: SIM115 - it reads a file that another one closes
)
_CLOSED = (
    (b"\x7fELF", "a native program or library"),
    (b"MZ", "a native program or library"),
    (b"\xcf\xfa\xed\xfe", "a native program or library"),
    (b"\xca\xfe\xba\xbe", "compiled Java, or a native library"),
    (b"\0asm", "WebAssembly"),
    (b"#!", "a script"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"PAR1", "a Parquet file"),
)


@dataclass(frozen=True)
class Found:
    """A file of a package, or what lies in one: `archive.zip!member`."""

    name: str
    kind: Kind
    data: bytes | None
    """None where it is too large or broken, and of no use beyond its kind; of a large one that is not looked into, the
    part that names a Lambda layer."""
    told: str = ""
    """What one is that is not looked into."""


@dataclass
class Contents:
    """Reads what lies in one package, with bounds on what archives in it inflate to."""

    left: int = field(default=_MOST_OF_ALL)

    def of(self, path: Path, name: str) -> Iterator[Found]:
        """A file, and all that is packed in it."""
        with path.open("rb") as file:
            yield from self._read(file, name, path.stat().st_size, 0)

    def _read(self, file: IO[bytes], name: str, size: int, depth: int) -> Iterator[Found]:
        head = file.read(_HEAD)
        file.seek(0)
        unpacked = self._unpacked(file, head, depth)
        if unpacked is None:
            yield from self._arrays(file, name, size, depth) if head[:4] == _NUMPY else [_found(file, name, head, size)]
            return
        if depth >= _DEEPEST:
            yield Found(f"{name}, which lies too deep in archives,", "archive", None)
            return
        try:
            yield Found(name, "archive", b"")
            for inner, member in unpacked:
                if self.left <= 0:
                    yield Found(f"{name}, of which the rest is too large,", "archive", None)
                    return
                yield from self._member(member, f"{name}!{inner[:100]}", depth + 1)
        except _BROKEN:
            yield Found(f"{name}, which looks like an archive,", "archive", None)

    def _unpacked(self, file: IO[bytes], head: bytes, depth: int) -> Iterator[_Packed] | None:
        """The members of an archive, or the one of a compressed file; None: it is neither."""
        if head.startswith(b"PK\3\4"):
            return _of_zip(file)
        if head[257:262] == b"ustar":
            return _of_tar(file)
        for magic, opened in _PACKED:
            if head.startswith(magic):
                return iter([("", opened(file))])
        if head[:1] == b"\x78" and depth < _DEEPEST and _is_zlib(head):  # as joblib compresses
            return iter([("", cast(IO[bytes], _Inflated(file)))])
        return None

    def _member(self, member: IO[bytes] | None, name: str, depth: int) -> Iterator[Found]:
        """One member, read as far as the bounds let; what was read is charged, whether it fits or not."""
        name = name.removesuffix("!")
        if member is None:
            yield Found(f"{name}, which is no plain file,", "archive", None)
            return
        data = io.BytesIO()
        most = min(_MOST_OF_ONE, self.left)
        while data.tell() <= most and (chunk := member.read(_CHUNK)):
            self.left -= data.write(chunk)
        if (size := data.tell()) > most:
            yield Found(f"{name}, which is too large,", "archive", None)
            return
        data.seek(0)
        yield from self._read(data, name, size, depth)

    def _arrays(self, file: IO[bytes], name: str, size: int, depth: int) -> Iterator[Found]:
        """Numbers, by their headers: arrays one after another, as numpy reads them from one file, and what follows."""
        end = 0
        try:
            while file.read(4) == _NUMPY:
                file.seek(end)
                array = array_at(file, size)
                if array.holds_objects:  # they follow the header as a pickle
                    yield _whole(file, name, "pickle", size - file.tell())
                    return
                end = file.seek(array.end)
        except Unreadable as error:
            yield Found(f"{name}, an array of numpy {error},", "numbers", None)
            return
        yield Found(name, "numbers", b"")
        if end < size:
            file.seek(end)
            yield from self._member(file, f"{name}!behind the array", depth + 1)


class _Inflated:
    """A stream of zlib, read in chunks."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        data = self._inflate.decompress(self._inflate.unconsumed_tail or self._file.read(_CHUNK), size)
        while not data and not self._inflate.eof:
            if not (packed := self._inflate.unconsumed_tail or self._file.read(_CHUNK)):
                raise EOFError("the stream is cut")
            data = self._inflate.decompress(packed, size)
        return data


def _of_zip(file: IO[bytes]) -> Iterator[_Packed]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir() or info.file_size or info.compress_size:  # a name that ends in / may have content
                with archive.open(info) as member:
                    yield info.filename, member


def _of_tar(file: IO[bytes]) -> Iterator[_Packed]:
    for each in tar.entries(file):
        if each.is_file:
            yield each.name, cast(IO[bytes], each.content)
        elif not each.is_folder or each.size:  # others may read it as a file, or what it holds as further entries
            yield each.name, None


def _is_zlib(head: bytes) -> bool:
    if len(head) < 2 or int.from_bytes(head[:2]) % 31:
        return False
    try:
        return bool(zlib.decompressobj().decompress(head, _HEAD))
    except zlib.error:
        return False


def _found(file: IO[bytes], name: str, head: bytes, size: int) -> Found:
    """What a file that is no archive and no array is."""
    kind, told = _kind(head, name)
    if kind in ("closed", "notebook") and builds(file):
        kind = "pickle"
    file.seek(0)
    if kind in ("pickle", "python"):
        return _whole(file, name, kind, size)
    if kind == "closed" and told:
        return Found(name, kind, None, told)
    if size > _MOST_OF_ONE:
        told = told or f"of more than {_MOST_OF_ONE} bytes, of no kind that is known here"
        return Found(name, kind, _with_lambda(file), told)
    data = file.read()
    return _text(name, data) if kind == "closed" else Found(name, kind, data, told)


def _whole(file: IO[bytes], name: str, kind: Kind, size: int) -> Found:
    """What must be read to its end."""
    if size > _MOST_OF_ONE:
        return Found(f"{name}, which is too large,", kind, None, f"of more than {_MOST_OF_ONE} bytes")
    return Found(name, kind, file.read())


def _with_lambda(file: IO[bytes]) -> bytes:
    """The part of a large file that names a Lambda layer; nothing where it names none."""
    part = b""
    while chunk := file.read(_CHUNK):
        part = part[-_HEAD:] + chunk  # a name may lie across two chunks
        if any(mark in part for mark in LAMBDA):
            return part
    return b""


def _kind(head: bytes, name: str) -> tuple[Kind, str]:
    suffix = name.lower()
    if (head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5) or suffix.endswith(_PICKLE_SUFFIXES):
        return "pickle", ""
    if suffix.endswith(".py"):
        return "python", ""
    if suffix.endswith(".pyc"):
        return "closed", "compiled Python"
    if head.startswith(b"\x89HDF"):
        return "hdf5", "an HDF5 file"
    if suffix.endswith(".ipynb"):
        return "notebook", "a notebook, which nothing here runs"
    return "closed", next((told for magic, told in _CLOSED if head.startswith(magic)), "")


def _text(name: str, data: bytes) -> Found:
    """Text, or what nobody knows."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return Found(name, "closed", None, "of no kind that is known here")
    return Found(name, "text", data, "plain text")
