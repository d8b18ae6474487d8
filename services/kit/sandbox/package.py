"""A package's files in a sandbox's own folder: what was checked is what is used."""

import hashlib
import shutil
import zipfile
from pathlib import Path

_CHUNK = 1024 * 1024


class Altered(ValueError):
    """The file's bytes are not those that were approved."""


def unpacked(package: Path, digest: str | None, folder: Path) -> Path:
    """Unpack the copy whose digest was taken (hexadecimal sha256; None: whoever asks wrote it just now) into a folder.

    Raises Altered.
    """
    own, folder = folder.absolute().with_suffix(".zip"), folder.absolute()
    sha256 = hashlib.sha256()
    with package.open("rb") as source, own.open("wb") as copy:
        while chunk := source.read(_CHUNK):
            sha256.update(chunk)
            copy.write(chunk)
    check(sha256.hexdigest(), digest)
    for path in folder.glob("*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with zipfile.ZipFile(own) as archive:
        archive.extractall(folder)  # the catalog wrote it, and nothing but this folder can be written to
    own.unlink()
    return folder


def check(found: str, digest: str | None) -> None:
    """Raises Altered where a digest is not the one that was approved."""
    if digest is not None and found != digest:
        raise Altered("the model's bytes are not those of the package that was approved: they were altered")
