"""Model packages: fetched by digest, checked against it, and only the model file taken out."""

import hashlib
import io
import os
import shutil
import threading
import zipfile
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import yaml

from services.kit.errors import Unavailable

from .runtimes.errors import CannotLoad

T = TypeVar("T")

_MANIFEST = "fairlead.yaml"
_SMALL_BYTES = 1024 * 1024
_MODEL = "model"
_UNREADABLE = (
    zipfile.BadZipFile, yaml.YAMLError, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class ModelFile:
    """A model file out of a checked package: whoever opens it checks it again, since it lies in a folder."""

    path: Path
    digest: str
    """The hexadecimal sha256 of its bytes."""
    name: str
    """What it is called in its package."""
    package: Path
    package_digest: str
    """As the file's."""
    lock: bytes | None
    """The libraries that it brings; None for a model that runs on the platform's."""
    training: str | None = None
    """Its training rows, within the package."""

    def read(self) -> bytes:
        """Its bytes. Raises CannotLoad where they are others than were taken out of the package."""
        data = self.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise CannotLoad("the model file was altered: its bytes are not those of the package that was approved")
        return data


@dataclass(frozen=True)
class Packages:
    """The folder where a scorer host keeps packages and the model files out of them."""

    folder: Path
    largest: int
    """Bytes of the largest model file."""

    def path(self, digest: str) -> Path:
        """Where a package is, or will be once it is fetched. Raises CannotLoad for what is no digest."""
        return self.folder / "packages" / f"{_digits(digest)}.zip"

    def whole(self, digest: str) -> bool:
        """Whether the package is here, its bytes those of the digest."""
        try:
            with self.path(digest).open("rb") as file:
                return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == digest
        except FileNotFoundError:
            return False

    def unpack(self, digest: str) -> ModelFile:
        """The model file of a package whose bytes are those of the digest, written anew. Raises CannotLoad, or
        Unavailable where the package is lost or altered and is fetched again.

        It is taken from the very bytes that were checked: what lies in the folder is never trusted. Several processes
        and threads may do this at once: each writes a file of its own and puts it in place as a whole.
        """
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise self._lacks(digest, f"the package {digest} is not here yet") from None
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise self._lacks(
                digest, f"the package was altered: its bytes are not those of {digest}, which was approved"
            )
        name, model, lock, training = _taken_out(data, self.largest)
        to = self.folder / "models" / _digits(digest) / _MODEL
        to.parent.mkdir(parents=True, exist_ok=True)
        part = to.with_name(f"{_MODEL}.{os.getpid()}-{threading.get_ident()}")
        part.write_bytes(model)
        own = hashlib.sha256(model).hexdigest()
        return ModelFile(part.replace(to), own, name, self.path(digest), _digits(digest), lock, training)

    def _lacks(self, digest: str, why: str) -> CannotLoad | Unavailable:
        """It is noted, for whoever brings packages: unless that was in vain, it is no fault of the version's."""
        in_vain, note = "", self._lacked / _digits(digest)
        with suppress(OSError):
            self._lacked.mkdir(parents=True, exist_ok=True)
            note.touch()
            in_vain = note.read_text(errors="replace")
        return CannotLoad(f"{why}: {in_vain}") if in_vain else Unavailable(f"{why}; it is being fetched")

    def lacks_in_vain(self, digest: str, reason: str) -> None:
        """Its bytes cannot be had where packages come from either, and whoever opens it is told so."""
        with suppress(OSError):
            self._lacked.mkdir(parents=True, exist_ok=True)
            (self._lacked / _digits(digest)).write_text(reason)

    def lacking(self) -> set[str]:
        """The digests of packages that some process of this host wanted to open and did not find whole."""
        return {f"sha256:{path.name}" for path in self._lacked.glob("*")}

    def lacks_no_more(self, digest: str) -> None:
        """It was brought, or nobody needs it."""
        with suppress(OSError):
            (self._lacked / digest.removeprefix("sha256:")).unlink()

    @property
    def _lacked(self) -> Path:
        return self.folder / "lacking"

    def proof(self, digest: str) -> Path:
        """Where it is noted that this host has tried the model; it goes with the package."""
        return self.folder / "models" / _digits(digest) / "proven"

    def lock(self, digest: str) -> bytes | None:
        """The libraries that a package on this host brings. Raises CannotLoad."""
        with self.path(digest).open("rb") as file:
            return _read(file, _lock)

    def prune(self, keep: Collection[str], most: int) -> list[str]:
        """Delete packages that nobody needs, the oldest first, until they all take at most `most` bytes; answers which.

        `keep`: the digests that are served or shall be.
        """
        needed = {_digits(digest) for digest in keep}
        files = sorted((self.folder / "packages").glob("*.zip"), key=lambda path: path.stat().st_mtime)
        size = sum(path.stat().st_size for path in files)
        gone: list[str] = []
        for path in (path for path in files if path.stem not in needed):
            if size <= most:
                break
            size -= path.stat().st_size
            path.unlink(missing_ok=True)
            shutil.rmtree(self.folder / "models" / path.stem, ignore_errors=True)
            gone.append(f"sha256:{path.stem}")
        return gone

    def sweep(self) -> None:
        """Remove what a killed process left half-fetched or half-written."""
        for path in [*(self.folder / "packages").glob("*.part"), *(self.folder / "models").glob(f"*/{_MODEL}.*")]:
            path.unlink(missing_ok=True)


def _taken_out(data: bytes, largest: int) -> tuple[str, bytes, bytes | None, str | None]:
    """The model file's name and bytes, its libraries' lock, its training rows' name. No name leads outside."""

    def take(package: zipfile.ZipFile, said: dict[str, Any]) -> tuple[str, bytes, bytes | None, str | None]:
        name = _plain(said.get("model", _MANIFEST))
        training = said.get("training")
        return (
            name,
            _member(package, name, largest),
            _lock(package, said),
            None if training is None else _plain(training),
        )

    return _read(io.BytesIO(data), take)


def _read(data: IO[bytes], take: Callable[[zipfile.ZipFile, dict[str, Any]], T]) -> T:
    """What is taken of a package by its manifest. Raises CannotLoad."""
    try:
        with zipfile.ZipFile(data) as package:
            manifest = yaml.safe_load(_member(package, _MANIFEST, _SMALL_BYTES))
            return take(package, manifest if isinstance(manifest, dict) else {})
    except _UNREADABLE as error:
        raise CannotLoad(f"the package cannot be read: {str(error)[:200]}") from None


def _lock(package: zipfile.ZipFile, said: dict[str, Any]) -> bytes | None:
    name = said.get("requirements")
    return None if name is None else _member(package, _plain(name), _SMALL_BYTES)


def _plain(name: object) -> str:
    if not isinstance(name, str) or PurePosixPath(name).name != name or name in (".", "..", ""):
        raise CannotLoad("the package's fairlead.yaml names no model file")
    return name


def _member(package: zipfile.ZipFile, name: str, largest: int) -> bytes:
    try:
        info = package.getinfo(name)
    except KeyError:
        raise CannotLoad(f"the package has no {name[:100]}") from None
    with package.open(info) as file:
        data = file.read(largest + 1)  # the size in the directory is the packer's claim
    if len(data) > largest:
        raise CannotLoad(f"{name[:100]} is larger than {largest} bytes")
    return data


def _digits(digest: str) -> str:
    digits = digest.removeprefix("sha256:")
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise CannotLoad(f"{digest[:80]!r} is not a sha256 digest")
    return digits
