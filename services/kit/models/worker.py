"""The sandbox's side of a model: opens it out of bytes that are checked first, then answers tensors with tensors.

Imported behind the walls where the model has libraries of its own, so it needs numpy and nothing else.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import KINDS, Altered, Asked, TensorModel, Told, UntrustedTypes, open_code, open_table
from .tables import Table
from .wire import Tensors, pack, unpack

ENTRY = f"{__name__}:model"
STRUCTURE = b"structure"
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Opening:
    """The sandbox's argument: what to open."""

    format: str
    path: str
    """The model file, or the package of a code model."""
    digest: str | None
    """The hexadecimal sha256 that its bytes must have; None: whoever asks wrote them just now."""
    file: str
    """The model file within its package."""
    asked: Asked
    judge: bool = False
    """Types that are not trusted are told, where they are an error otherwise."""

    def to_json(self) -> bytes:
        """The argument's bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Opening":
        """Back from the argument's bytes."""
        said = json.loads(data)
        return cls(**said | {"asked": Asked(**said["asked"])})


def model(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry: `b""` is answered with what the model tells of itself (JSON), `STRUCTURE` with its trees or
    coefficients (tensors, none for other models), tensors with tensors.

    Raises Altered, UntrustedTypes, Unreadable, or whatever a stranger's code raises.
    """
    opening = Opening.from_json(argument)
    try:
        opened = load(opening)
    except UntrustedTypes as error:
        if not opening.judge:
            raise
        told = Told(untrusted=error.types)
        return lambda _: told.to_json()

    def answer(payload: bytes) -> bytes:
        if not payload:
            return opened.told.to_json()
        return pack(_structure(opened) if payload == STRUCTURE else opened.predict(unpack(payload)))

    return answer


def _structure(opened: TensorModel) -> Tensors:
    return opened.structure() if isinstance(opened, Table) else {}


def load(opening: Opening) -> TensorModel:
    """The model that is to be opened, its bytes checked first."""
    if KINDS[opening.format].is_code:
        return open_code(opening.format, unpacked(Path(opening.path), opening.digest), opening.file, opening.asked)
    data = Path(opening.path).read_bytes()
    _check(hashlib.sha256(data).hexdigest(), opening.digest)
    return Table(open_table(opening.format, data), opening.asked)


def unpacked(package: Path, digest: str | None) -> Path:
    """A package's files in this worker's own folder: what was checked is what is used. Raises Altered."""
    own, folder = Path("package.zip").absolute(), Path("package").absolute()
    sha256 = hashlib.sha256()
    with package.open("rb") as source, own.open("wb") as copy:
        while chunk := source.read(_CHUNK):
            sha256.update(chunk)
            copy.write(chunk)
    _check(sha256.hexdigest(), digest)
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(own) as archive:
        archive.extractall(folder)  # the catalog wrote it, and nothing but this folder can be written to
    own.unlink()
    return folder


def _check(found: str, digest: str | None) -> None:
    if digest is not None and found != digest:
        raise Altered("the model's bytes are not those of the package that was approved: they were altered")
