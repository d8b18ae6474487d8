"""What parent and worker agree on before and while they talk: the job, the frames, the caps."""

import json
import struct
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Self

HEADER = struct.Struct("<BII")
"""Kind, number of the call, length of what follows."""

MAX_PAYLOAD = 256 * 1024 * 1024
"""Bytes of one frame, in either direction."""
MAX_ERROR = 4096
"""Bytes that are kept of an error's message and of stderr."""


class Kind(IntEnum):
    """What a frame is. The talk opens with the first four in turn: the argument goes to a worker that is locked in."""

    SPEC = 1
    LOCKED = 2
    ARGUMENT = 3
    READY = 4
    CALL = 5
    ANSWER = 6
    ERROR = 7


@dataclass(frozen=True, kw_only=True)
class Confined:
    """What any sandboxed process is told of its bounds."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    tmp: str
    memory_mb: int
    file_mb: int
    uid: int | None
    """The id to drop to, when the parent is root."""
    parent: int

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        fields: dict[str, Any] = json.loads(data)
        told: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in fields.items()}
        return cls(**told)


@dataclass(frozen=True, kw_only=True)
class Spec(Confined):
    """What a worker is told about itself."""

    entry: str
    preload: tuple[str, ...]
    packages: str | None
    """The folder of the model's own libraries, in place of the platform's: nothing of it runs before the filter."""
    mapped_mb: int
    """Address space for files of `packages` that are mapped, beyond `memory_mb`."""
    cpu_s: int | None


@dataclass(frozen=True, kw_only=True)
class ProgramSpec(Confined):
    """What a launcher is told about the program that it is to become."""

    runtime: str | None
    """The program; None: it is a file of the package, `command`'s first word."""
    command: tuple[str, ...]
    package: str
    digest: str | None
    """The hexadecimal sha256 of the package; None: whoever asks wrote it just now."""
    environment: dict[str, str]
