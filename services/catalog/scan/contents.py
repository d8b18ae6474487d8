"""What lies in a package: each file by its first bytes, and what lies in archives and compressed files, by theirs."""

import bz2
import gzip
import io
import lzma
import pickletools
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, cast

from services.kit.errors import Invalid

from .. import tar

Kind = Literal["archive", "hdf5", "notebook", "numbers", "pickle", "python", "text", "closed"]

_DEEPEST = 4
_MOST_OF_ONE = 256 * 1024 * 1024
_MOST_OF_ALL = 2 * 1024 * 1024 * 1024
_HEAD = 512
_NAMED = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*")
_CHUNK = 1024 * 1024
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
    """None where it is too large or broken, and of no use beyond its kind."""
    told: str = ""
    """What a closed one is."""


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
            yield _found(file, name, head, size)
            return
        if depth >= _DEEPEST:
            yield Found(f"{name}, which lies too deep in archives,", "archive", None)
            return
        try:
            yield Found(name, "archive", b"")
            for inner, member in unpacked:
                yield from self._member(member, f"{name}!{inner[:100]}", depth + 1)
        except _BROKEN:
            yield Found(f"{name}, which looks like an archive,", "archive", None)

    def _unpacked(self, file: IO[bytes], head: bytes, depth: int) -> Iterator[tuple[str, IO[bytes]]] | None:
        """The members of an archive, or the one of a compressed file; None: it is neither."""
        if head.startswith(b"PK\3\4"):
            return _of_zip(file)
        if head[257:262] == b"ustar":
            return ((each.name, cast(IO[bytes], each.content)) for each in tar.entries(file) if each.is_file)
        for magic, opened in _PACKED:
            if head.startswith(magic):
                return iter([("", opened(file))])
        if head[:1] == b"\x78" and depth < _DEEPEST and _is_zlib(head):  # as joblib compresses
            return iter([("", cast(IO[bytes], _Inflated(file)))])
        return None

    def _member(self, member: IO[bytes], name: str, depth: int) -> Iterator[Found]:
        """One member, read as far as the bounds let."""
        name = name.removesuffix("!")
        data = io.BytesIO()
        while chunk := member.read(_CHUNK):
            if data.write(chunk) and data.tell() > min(_MOST_OF_ONE, self.left):
                yield Found(f"{name}, which is too large,", "archive", None)
                return
        self.left -= (size := data.tell())
        data.seek(0)
        yield from self._read(data, name, size, depth)


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


def _of_zip(file: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as member:
                    yield info.filename, member


def _is_zlib(head: bytes) -> bool:
    if len(head) < 2 or int.from_bytes(head[:2]) % 31:
        return False
    try:
        return bool(zlib.decompressobj().decompress(head, _HEAD))
    except zlib.error:
        return False


def _found(file: IO[bytes], name: str, head: bytes, size: int) -> Found:
    """What a file that is no archive is."""
    kind, told = _kind(head, name)
    if kind == "closed" and told:
        return Found(name, kind, None, told)
    if size > _MOST_OF_ONE:
        return Found(f"{name}, which is too large,", kind, None, f"of more than {_MOST_OF_ONE} bytes")
    data = file.read()
    if kind == "numbers":
        return _array(name, data)
    if kind == "closed":
        return _text(name, data)
    return Found(name, kind, data)


def _kind(head: bytes, name: str) -> tuple[Kind, str]:
    suffix = name.lower()
    if head.startswith(b"\x93NUM"):
        return "numbers", ""
    if (head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5") or suffix.endswith(_PICKLE_SUFFIXES):
        return "pickle", ""
    if suffix.endswith(".py"):
        return "python", ""
    if suffix.endswith(".pyc"):
        return "closed", "compiled Python"
    if head.startswith(b"\x89HDF"):
        return "hdf5", ""
    if suffix.endswith(".ipynb"):
        return "notebook", ""
    return "closed", next((told for magic, told in _CLOSED if head.startswith(magic)), "")


def _array(name: str, data: bytes) -> Found:
    """Numbers; an array of objects is a pickle after its header (numpy.lib.format)."""
    wide = data[6:7] != b"\1"
    start = (12 if wide else 10) + int.from_bytes(data[8 : 12 if wide else 10], "little")
    if b"O" in data[:start].partition(b"fortran_order")[0]:
        return Found(name, "pickle", data[start:])
    return Found(name, "numbers", b"")


def _text(name: str, data: bytes) -> Found:
    """Text, the old text form of a pickle, or what nobody knows."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return Found(name, "closed", None, "of no kind that is known here")
    return Found(name, "pickle" if _builds(data) else "text", data)


def _builds(data: bytes) -> bool:
    """Whether a text, read as a pickle, names a function and calls it, whatever follows: protocol 0 has no magic."""
    named = False
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name in ("GLOBAL", "INST"):
                if not _NAMED.fullmatch(str(argument)):
                    return False
                named = True
            if named and code.name in ("INST", "REDUCE", "OBJ"):
                return True
    except (ValueError, IndexError, KeyError, UnicodeError, OverflowError):
        pass
    return False
