"""A model's package: opened for its files, and packed again with new ones."""

import os
import stat
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_MANIFEST = "fairlead.yaml"
_MOST_BYTES = 1024 * 1024 * 1024


class BadPackage(Exception):
    """A package, or what a recipe made for one, that cannot be used; the reason is for people."""


@dataclass(frozen=True)
class Package:
    """A package unpacked into a folder."""

    folder: Path
    manifest: dict[str, Any]
    names: tuple[str, ...]

    @property
    def model(self) -> str:
        """The file of the model."""
        return self.manifest["model"]

    @property
    def recipe(self) -> str | None:
        """The file that trains it anew; None where the package brings none."""
        return self.manifest.get("recipe")

    @property
    def label(self) -> str | None:
        """The column that it learns."""
        return self.manifest.get("label")

    @property
    def lock(self) -> bytes | None:
        """The libraries that it brings, as a lock; None where it runs on the platform's. Raises BadPackage."""
        named = self.manifest.get("requirements")
        return None if named is None else plain_file(self.folder, str(named))

    @property
    def made_by_recipe(self) -> tuple[str, ...]:
        """The files that a recipe writes anew."""
        training = self.manifest.get("training")
        return (self.model, training) if training else (self.model,)


def unpack(archive: Path, folder: Path) -> Package:
    """Open a package that the catalog took. Raises BadPackage."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as source:
            for info in source.infolist():
                _extract(source, info, folder)
            manifest = yaml.safe_load(source.read(_MANIFEST))
            names = tuple(info.filename for info in source.infolist())
    except (zipfile.BadZipFile, KeyError, yaml.YAMLError) as error:
        raise BadPackage(f"the package cannot be opened: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("model"), str) or manifest["model"] not in names:
        raise BadPackage(f"{_MANIFEST} does not name a model file of the package")
    return Package(folder, manifest, names)


def pack(package: Package, made: Path, metrics: dict[str, float], to: Path) -> None:
    """The candidate's package: the same with the files that the recipe made and the metrics that were measured.

    Members are sorted and dated alike: equal content gives equal bytes. Raises BadPackage.
    """
    manifest = package.manifest | {"metrics": metrics}
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as target:
        for name in sorted(package.names):
            if name == _MANIFEST:
                content = yaml.safe_dump(manifest, sort_keys=False).encode()
            else:
                content = plain_file(made if name in package.made_by_recipe else package.folder, name)
            target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def require(made: Path, names: Iterable[str]) -> None:
    """Raise BadPackage for a file that the recipe should have written and did not."""
    for name in names:
        plain_file(made, name)


def plain_file(folder: Path, name: str) -> bytes:
    """A regular file of a folder that a stranger wrote. Raises BadPackage."""
    try:
        # Neither a link nor a pipe may lead or hold the reader.
        fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BadPackage(f"there is no file {name}: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > _MOST_BYTES:
            raise BadPackage(f"{name} is not a plain file of at most {_MOST_BYTES} bytes")
        return file.read()


def _extract(source: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> None:
    parts = Path(info.filename).parts
    if info.is_dir() or info.file_size > _MOST_BYTES or Path(info.filename).is_absolute() or ".." in parts:
        raise BadPackage(f"{info.filename[:100]!r} does not belong into a package")
    to = folder / info.filename
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(source.read(info))
