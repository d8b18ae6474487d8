"""A multipart upload, written to disk as it comes: the caps hold before the bytes are in memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson
from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from services.kit.errors import Invalid, TooLarge, TooSlow
from services.kit.inputs import check_text

FILE_FIELD = "package"
_MAX_FIELD = 256 * 1024
_MAX_FIELDS = 40
_JSON_FIELDS = frozenset({"columns", "inputs", "metrics", "outputs", "segments", "tags"})


@dataclass
class Upload:
    """The one file of a form, on disk, and its other fields."""

    path: Path
    fields: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Pace:
    """How slow a body may come: some seconds, and one more for each so many bytes that came."""

    grace_s: float = 30.0
    bytes_s: int = 16 * 1024

    async def pieces(self, request: Request) -> AsyncIterator[bytes]:
        """The body as it comes. Raises TooSlow."""
        loop, came = asyncio.get_running_loop(), 0
        began, stream = loop.time(), aiter(request.stream())
        while True:
            try:
                async with asyncio.timeout_at(began + self.grace_s + came / self.bytes_s):
                    piece = await anext(stream, None)
            except TimeoutError:
                raise TooSlow(f"the upload came too slowly: {came} bytes in {loop.time() - began:.0f} s") from None
            if piece is None:
                return
            came += len(piece)
            yield piece


async def receive(request: Request, path: Path, max_bytes: int, pace: Pace = Pace()) -> Upload:
    """Read the body into `path`. Raises Invalid naming the field, TooLarge beyond `max_bytes`, TooSlow."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Invalid("send multipart/form-data with the model as the field `package`", FILE_FIELD)
    with path.open("xb") as file:
        form = _Form(file, max_bytes)
        try:
            parser = MultipartParser(boundary, form.callbacks())  # pyright: ignore[reportArgumentType]
            async for chunk in pace.pieces(request):
                parser.write(chunk)
            parser.finalize()
        except MultipartParseError as error:
            raise Invalid(f"the form cannot be read: {str(error)[:200]}", FILE_FIELD) from None
    if not form.ended:
        raise Invalid("the form is cut off", FILE_FIELD)
    if not form.has_file:
        raise Invalid("the form has no field `package` with the model", FILE_FIELD)
    return Upload(path, {name: _value(name, data) for name, data in form.fields.items()})


class _Form:
    """What the parser says, as it says it."""

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self.fields: dict[str, bytes] = {}
        self.has_file = self.ended = False
        self._file = file
        self._left = max_bytes
        self._max = max_bytes
        self._headers: dict[bytes, bytes] = {}
        self._name = self._header = b""
        self._value = b""
        self._part = ""

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin, "on_part_data": self._data, "on_header_field": self._field,
            "on_header_value": self._header_value, "on_header_end": self._header_end,
            "on_headers_finished": self._headers_done, "on_end": self._end,
        }  # fmt: skip

    def _begin(self) -> None:
        self._headers = {}
        self._header = self._value = b""

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _headers_done(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._part = options.get(b"name", b"").decode(errors="replace")[:100]
        if not self._part:
            raise Invalid("the form has a part without a name")
        if self._part in self.fields or (self._part == FILE_FIELD and self.has_file):
            raise Invalid(f"{self._part}: this field is there twice", self._part)
        if self._part == FILE_FIELD:
            self.has_file = True
            return
        if len(self.fields) >= _MAX_FIELDS:
            raise TooLarge(f"the form has more than {_MAX_FIELDS} fields")
        self.fields[self._part] = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part == FILE_FIELD:
            self._left -= end - start
            if self._left < 0:
                raise TooLarge(f"package: larger than the {self._max} bytes that are taken")
            self._file.write(data[start:end])
            return
        self.fields[self._part] += data[start:end]
        if len(self.fields[self._part]) > _MAX_FIELD:
            raise TooLarge(f"{self._part}: larger than {_MAX_FIELD} bytes")

    def _end(self) -> None:
        self.ended = True


def _value(name: str, data: bytes) -> Any:
    """Text; lists and mappings come as JSON, tags and segments as words between commas too."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Invalid(f"{name}: this is not UTF-8 text", name) from None
    check_text(text, name)
    if name not in _JSON_FIELDS:
        return text
    if name in ("tags", "segments") and not text.startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"{name}: this is not JSON: {error}", name) from None
