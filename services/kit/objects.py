"""The object store: immutable bytes by their sha256 digest, in a folder or in a bucket, with the same code."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

from .durable import sync_folder
from .errors import FULL, Altered, Invalid, NoRoom, NotFound, Unavailable
from .settings import Settings
from .signing import digest_of

if TYPE_CHECKING:
    from obstore import GetResult

_CHUNK = 1024 * 1024


class Objects:
    """Content-addressed: what is put once is never overwritten, what is read is checked."""

    def __init__(self, settings: Settings) -> None:
        url = settings.objects_url
        if url.startswith("file://"):
            Path(unquote(urlsplit(url).path)).mkdir(parents=True, exist_ok=True)
        self._store: ObjectStore = from_url(url)

    async def put(self, data: bytes) -> str:
        """Store bytes; answers their digest."""
        digest = digest_of(data)
        await self._create(digest, data)
        return digest

    async def put_file(self, path: Path) -> str:
        """Store a file; answers its digest."""
        digest = await asyncio.to_thread(_file_digest, path)
        await self._create(digest, path)
        return digest

    async def get(self, digest: str) -> bytes:
        """The bytes of a digest. Raises NotFound, or Altered where the stored bytes are not what the digest says."""
        return await self._read(digest, await self._ask(digest))

    async def get_small(self, digest: str, at_most: int) -> bytes | None:
        """The same; None for an object of more than `at_most` bytes."""
        found = await self._ask(digest)
        return await self._read(digest, found) if found.meta["size"] <= at_most else None

    async def _ask(self, digest: str) -> "GetResult":
        try:
            return await obstore.get_async(self._store, _path(digest))
        except FileNotFoundError:
            raise NotFound(f"no object {digest}") from None
        except (BaseError, OSError) as error:
            raise _away(digest, error) from error

    async def _read(self, digest: str, found: "GetResult") -> bytes:
        try:
            data = bytes(await found.bytes_async())
        except (BaseError, OSError) as error:
            raise _away(digest, error) from error
        if digest_of(data) != digest:
            raise _altered(digest)
        return data

    async def exists(self, digest: str) -> bool:
        try:
            await obstore.head_async(self._store, _path(digest))
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise _away(digest, error) from error
        return True

    async def remove(self, digest: str) -> None:
        """Delete an object, whoever else knows its digest; again: no harm. Raises Unavailable."""
        try:
            await obstore.delete_async(self._store, _path(digest))
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store does not remove {digest}: {error}") from error

    async def stream(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a digest in chunks of 1 MiB and more, unchecked: for answers whose reader checks.

        Raises NotFound and Unavailable before the first chunk, while an answer can still say so; Unavailable later.
        """
        return self._chunks(digest, await self._ask(digest))

    async def stream_checked(self, digest: str, room: Path) -> AsyncIterator[bytes]:
        """The bytes of a digest in chunks of 1 MiB, all of them checked before the first, by way of a copy in `room`.

        Raises NotFound, Unavailable and Altered before the first chunk. The copy has no name and ends with its reader.
        """
        copy = await asyncio.to_thread(tempfile.TemporaryFile, dir=room)
        try:
            await self._fill(digest, copy)
            await asyncio.to_thread(copy.seek, 0)
        except BaseException:
            copy.close()
            raise
        return _read_on(copy)

    async def _chunks(self, digest: str, found: "GetResult") -> AsyncIterator[bytes]:
        try:
            async for chunk in found.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)
        except (BaseError, OSError) as error:
            raise _away(digest, error) from error

    async def fetch(self, digest: str, to: Path, *, kept: bool = False) -> Path:
        """Copy an object into a file of its owner's alone, checked, atomically; a chunk at a time is in memory.

        `kept`: a power loss after this leaves it whole, under its name.
        """
        part = to.with_name(f"{to.name}.{uuid4().hex[:8]}.part")  # another process may fetch it at the same time
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            await self._copy(digest, part, kept=kept)
            part.replace(to)
            if kept:
                await asyncio.to_thread(sync_folder, to.parent)
            return to
        finally:
            part.unlink(missing_ok=True)

    async def _copy(self, digest: str, to: Path, *, kept: bool) -> None:
        with await asyncio.to_thread(open, to, "xb", opener=_private) as file:
            await self._fill(digest, file)
            if kept:
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())

    async def _fill(self, digest: str, file: IO[bytes]) -> None:
        hashed = hashlib.sha256()
        async for chunk in await self.stream(digest):
            hashed.update(chunk)
            await asyncio.to_thread(file.write, chunk)
        if f"sha256:{hashed.hexdigest()}" != digest:
            raise _altered(digest)

    async def _create(self, digest: str, data: bytes | Path) -> None:
        try:
            await obstore.put_async(self._store, _path(digest), data, mode="create")
        except AlreadyExistsError:
            return
        except (BaseError, OSError) as error:
            if any(f"os error {number}" in str(error) for number in FULL) or getattr(error, "errno", None) in FULL:
                raise NoRoom("the object store is full; nothing was kept") from error
            raise Unavailable(f"the object store does not take {digest}: {error}") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def _read_on(copy: IO[bytes]) -> AsyncIterator[bytes]:
    with copy:
        while chunk := await asyncio.to_thread(copy.read, _CHUNK):
            yield chunk


def _altered(digest: str) -> Altered:
    return Altered(f"the stored object {digest} was altered: its bytes have another digest")


def _away(digest: str, error: Exception) -> Unavailable:
    return Unavailable(f"the object store does not give {digest}: {error}")


def _path(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise Invalid(f"{digest[:80]!r} is not a sha256 digest", "digest")
    return f"sha256/{value[:2]}/{value}"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
