"""The sandbox's side of a model: opens it out of bytes that are checked first, then answers tensors with tensors.

Imported behind the walls where the model has libraries of its own, so it needs numpy and nothing else.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from services.kit.sandbox.package import check, unpacked

from . import Asked, SetModel, TensorModel, Told, UntrustedTypes, is_code, open_code, open_table
from .tables import Table
from .wire import Tensors, pack, parted, unpack

ENTRY = f"{__name__}:model"
STRUCTURE = b"structure"


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
    coefficients (tensors, none for other models), a question with tensors.

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
        return pack(_structure(opened) if payload == STRUCTURE else _answer(opened, payload))

    return answer


def _answer(opened: TensorModel, payload: bytes) -> Tensors:
    params, tensors = parted(payload)
    if not params:
        return opened.predict(unpack(tensors))
    return cast(SetModel, opened).predict(unpack(tensors), json.loads(params))


def _structure(opened: TensorModel) -> Tensors:
    return opened.structure() if isinstance(opened, Table) else {}


def load(opening: Opening) -> TensorModel:
    """The model that is to be opened, its bytes checked first."""
    if is_code(opening.format):
        return open_code(
            opening.format, unpacked(Path(opening.path), opening.digest, Path("package")), opening.file, opening.asked
        )
    data = Path(opening.path).read_bytes()
    check(hashlib.sha256(data).hexdigest(), opening.digest)
    if opening.format == "onnx":
        from .onnx_session import open_model

        return open_model(data, opening.asked)
    return Table(open_table(opening.format, data), opening.asked)
