"""Files of an object store that a connection leads to: fetched within bounds, written whole, listed by prefix."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from ..errors import Invalid, TooLarge, Unavailable
from . import beneath
from .kinds import ObjectsConnection

_PIECE = 1024 * 1024
_MOST = 500
_AT_ONCE = 1_000


@dataclass(frozen=True)
class Found:
    """An object as it is now."""

    path: str
    version: str
    """Its entity tag, else its time and size: another one is another file."""
    bytes: int
    modified: datetime


def plain_path(given: str, field: str) -> str:
    """A path below a connection: plain parts, so that none leads out of it. Raises Invalid naming the field."""
    parts = given.split("/")
    if len(given) > _MOST or not given.isprintable() or "\\" in given or any(p in ("", ".", "..") for p in parts):
        raise Invalid(f"{field}: a path is plain parts with / between them, such as incoming/rows.parquet", field)
    return given


async def fetch(connection: ObjectsConnection, path: str, to: Path, most: int) -> str:
    """Copy an object into a file; answers its version. Raises Invalid where it is not there, TooLarge, Unavailable."""
    try:
        if root := connection.files():
            return beneath.tag(await asyncio.to_thread(beneath.copy, root, path, to, most))
        found = await obstore.get_async(connection.store(), path)
        if found.meta["size"] > most:
            raise beneath.Larger
        with await asyncio.to_thread(to.open, "wb") as file:
            async for piece in found.stream(min_chunk_size=_PIECE):
                await asyncio.to_thread(file.write, bytes(piece))
        return _version(found.meta)
    except FileNotFoundError as error:
        if _has_no_bucket(error):
            raise _away(connection, error) from None
        raise Invalid(f"path: connection {connection.name} has no {path[:200]}", "path") from None
    except beneath.Larger:
        raise TooLarge(f"{path[:200]} is larger than {most} bytes") from None
    except beneath.Refused as error:
        raise Invalid(f"path: connection {connection.name} does not give {path[:200]}: {error}", "path") from None
    except (BaseError, OSError) as error:
        raise _away(connection, error) from error


async def put(connection: ObjectsConnection, path: str, file: Path) -> None:
    """Write a file as one object, in place of what was there. Raises Unavailable."""
    try:
        if root := connection.files():
            await asyncio.to_thread(beneath.write, root, path, file)
        else:
            await obstore.put_async(connection.store(), path, file)
    except (BaseError, OSError, beneath.Refused) as error:
        raise _away(connection, error) from error


async def listed(connection: ObjectsConnection, prefix: str) -> AsyncIterator[Found]:
    """The objects below a prefix, a folder. Raises Unavailable."""
    try:
        if root := connection.files():
            files = beneath.found(root, prefix)
            while some := await asyncio.to_thread(lambda: list(islice(files, _AT_ONCE))):
                for path, about in some:
                    yield Found(path, beneath.tag(about), about.st_size, beneath.modified(about))
            return
        async for some in obstore.list(connection.store(), prefix):
            for meta in some:
                yield Found(meta["path"], _version(meta), int(meta["size"]), meta["last_modified"])
    except (BaseError, OSError) as error:
        raise _away(connection, error) from error


def _version(meta: "obstore.ObjectMeta") -> str:
    return str(meta.get("e_tag") or f"{meta['last_modified'].isoformat()}-{meta['size']}")


def _away(connection: ObjectsConnection, error: Exception) -> Unavailable:
    """In words of our own: the store's may hold a part of the options."""
    reason = type(error).__name__
    if _has_no_bucket(error):
        reason = "the store has no such bucket"
    elif _is_refused(error):
        reason = "the store refuses its key, or does not let it do this"
    return Unavailable(f"connection {connection.name} cannot be used now ({reason})")


def _has_no_bucket(error: Exception) -> bool:
    """S3, Azure and Google say it as they say that an object is not there, with a code or a sentence of their own."""
    return any(said in str(error) for said in ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist"))


def _is_refused(error: Exception) -> bool:
    """A listing's refusal has no class of its own."""
    known = isinstance(error, (PermissionDeniedError, UnauthenticatedError))
    return known or "status code: 403" in str(error) or "status code: 401" in str(error)
