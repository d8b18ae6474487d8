"""A tar reader (POSIX ustar, pax, GNU long names) for archives that strangers made: forward only, all sizes bounded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from services.kit.errors import Invalid

_BLOCK = 512
_ZERO = bytes(_BLOCK)
_MAX_HEADER = 64 * 1024
"""The largest extended header that is read into memory."""


@dataclass(frozen=True)
class Entry:
    """A header of the archive with its content, which must be read before the next one is asked for."""

    name: str
    size: int
    kind: str
    content: "Content"

    @property
    def is_file(self) -> bool:
        """A regular file; an old archive says it by a NUL."""
        return self.kind in ("0", "\0")

    @property
    def is_folder(self) -> bool:
        """A folder; what is neither is a link, a device or a kind of its own."""
        return self.kind == "5"


class Content:
    """The bytes of one member."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int) -> bytes:
        """At most `size` bytes of what is left of the member; none at its end, or where the archive is cut off."""
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data

    def skip(self) -> None:
        """Pass over what is left of the member."""
        while self._left and self.read(_BLOCK * 128):
            pass


def entries(stream: IO[bytes]) -> Iterator[Entry]:
    """The members in order. Raises Invalid for a header that is broken, sparse or too large."""
    said: dict[str, str] = {}
    while (block := _exactly(stream, _BLOCK)) != _ZERO:
        kind, size = _header(block)
        if kind in ("x", "g", "L"):
            said |= _extended(kind, stream, size)
            continue
        size = _decimal(said["size"]) if "size" in said else size
        if any(name.startswith("GNU.sparse") for name in said):
            raise Invalid("the archive holds a sparse file: only regular files are taken", "package")
        entry = Entry(said.get("path") or _name(block), size, kind, Content(stream, size))
        yield entry
        entry.content.skip()
        _exactly(stream, -size % _BLOCK)
        said = {}


def _header(block: bytes) -> tuple[str, int]:
    """Type and size, once the checksum holds."""
    total = sum(block[:148]) + 8 * 0x20 + sum(block[156:])
    if _octal(block[148:156]) != total:
        raise Invalid("the archive holds a header whose checksum is wrong", "package")
    return chr(block[156]), _octal(block[124:136])


def _extended(kind: str, stream: IO[bytes], size: int) -> dict[str, str]:
    """What a pax header or a GNU long name says about the next member."""
    if size > _MAX_HEADER:
        raise Invalid("the archive holds an extended header that is too large", "package")
    data = _exactly(stream, size)
    _exactly(stream, -size % _BLOCK)
    if kind == "g":
        return {}
    return {"path": _text(data.rstrip(b"\0"))} if kind == "L" else _pax(data)


def _pax(data: bytes) -> dict[str, str]:
    """Records of the form `length name=value`, where the length counts the whole record."""
    said: dict[str, str] = {}
    while data:
        length = _decimal(_text(data.partition(b" ")[0]))
        name, equals, value = data[:length].partition(b" ")[2].partition(b"=")
        if not equals or not value.endswith(b"\n") or length > len(data):
            raise Invalid("the archive holds a broken pax header", "package")
        said[_text(name)] = _text(value[:-1])
        data = data[length:]
    return said


def _name(block: bytes) -> str:
    name, prefix = block[:100].partition(b"\0")[0], block[345:500].partition(b"\0")[0]
    has_prefix = block[257:263] == b"ustar\0" and prefix
    return _text(prefix + b"/" + name if has_prefix else name)


def _octal(field: bytes) -> int:
    if field[0] == 0x80:  # GNU's binary form, for sizes beyond 8 GiB; 0xff would be negative
        return int.from_bytes(field[1:])
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise Invalid("the archive holds a header with a broken number", "package")
    return int(digits, 8)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Invalid("the archive holds a pax header with a broken number", "package")
    return int(text)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Invalid("the archive holds a name that is not UTF-8", "package") from None


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := stream.read(size - len(data))):
            raise Invalid("the archive is cut off", "package")
        data += more
    return data
