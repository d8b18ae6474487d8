"""Model packages: fetched by digest, checked against it, and only the model file taken out."""

import hashlib
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from .runtimes.errors import CannotLoad

_MANIFEST = "fairlead.yaml"
_MANIFEST_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Packages:
    """The folder where a scorer host keeps packages and the model files out of them."""

    folder: Path
    largest: int
    """Bytes of the largest model file."""

    def path(self, digest: str) -> Path:
        return self.folder / "packages" / f"{_digits(digest)}.zip"

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def unpack(self, digest: str) -> Path:
        """The model file of a package whose bytes are those of the digest, written anew. Raises CannotLoad.

        It is taken from the very bytes that were checked: what lies in the folder is never trusted.
        """
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise CannotLoad(f"the package {digest} is not here yet") from None
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise CannotLoad(f"the package was altered: its bytes are not those of {digest}, which was approved")
        name, model = _model_of(data, self.largest)
        to = self.folder / "models" / _digits(digest) / name
        to.parent.mkdir(parents=True, exist_ok=True)
        part = to.with_name(f"{name}.{os.getpid()}")
        part.write_bytes(model)
        return part.replace(to)


def _model_of(data: bytes, largest: int) -> tuple[str, bytes]:
    """Name and bytes of the model file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            manifest = yaml.safe_load(_member(package, _MANIFEST, _MANIFEST_BYTES))
            name = manifest.get("model") if isinstance(manifest, dict) else None
            if not isinstance(name, str) or PurePosixPath(name).name != name or name in (".", "..", ""):
                raise CannotLoad("the package's fairlead.yaml names no model file")
            return name, _member(package, name, largest)
    except (zipfile.BadZipFile, yaml.YAMLError, NotImplementedError, RuntimeError, EOFError) as error:
        raise CannotLoad(f"the package cannot be read: {str(error)[:200]}") from None


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
