"""A model that is a program of any language: it answers V2 requests with V2 responses, a line of JSON each.

Package: `command` in `fairlead.yaml`, whose first word is a runtime that the operator allows or a file of the package
(`./model`), and the tensors that it takes and gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.kit.errors import Invalid
from services.kit.runtimes import Runtime, runtimes
from services.kit.sandbox import ProgramSandbox, SandboxError

from . import Asked, Told, declared_inputs, v2json
from .wire import Tensors, WireError

_MB = 1024 * 1024
_GREETING = "0"


@dataclass(frozen=True)
class Program:
    """What is run."""

    command: Sequence[str]
    package: Path
    digest: str | None
    """The hexadecimal sha256 that the package must have; None: whoever asks wrote it just now."""
    asked: Asked


def runtime_of(command: Sequence[str], allowed: str) -> Runtime | None:
    """What runs a command, out of `FAIRLEAD_RUNTIMES`; None: a file of the package. Raises Invalid."""
    if command[0].startswith("./"):
        return None
    if found := runtimes(allowed).get(command[0]):
        return found
    raise Invalid(
        f"command: the operator allows no runtime {command[0][:80]!r} here (FAIRLEAD_RUNTIMES); "
        "a file of the package begins with ./", "command",
    )  # fmt: skip


class ProcessModel:
    """One warm program for one model. Its methods raise the sandbox's errors, and WireError for what is no answer."""

    def __init__(
        self, program: Program, *, runtimes: str, memory_mb: int, deadline_s: float, load_s: float, name: str,
        once: bool = False,
    ) -> None:  # fmt: skip
        """Raises Invalid for a command that nobody may run here."""
        self._inputs = declared_inputs(program.asked)
        self._outputs = program.asked.outputs
        self._told = Told(
            inputs=self._inputs, outputs=self._outputs, prediction=program.asked.prediction, score=program.asked.score,
            made_with=" ".join(program.command)[:100],
        )  # fmt: skip
        self._number = 0
        self.sandbox = ProgramSandbox(
            program.command, runtime=runtime_of(program.command, runtimes), package=program.package,
            digest=program.digest, welcome=_welcome, memory_mb=memory_mb,
            greeting=v2json.request(_GREETING, v2json.blank(self._inputs), self._inputs, self._outputs),
            disk_mb=1024 + 4 * (program.package.stat().st_size // _MB), deadline_s=deadline_s, load_s=load_s,
            name=name, once=once,
        )  # fmt: skip

    async def start(self) -> None:
        """Start it, until it has answered a row of zeros."""
        await self.sandbox.start()

    async def told(self) -> Told:
        """What its package says of it."""
        return self._told

    async def predict(self, inputs: Tensors) -> Tensors:
        """All outputs for all inputs. Raises SandboxError in the program's own words where it refuses them."""
        self._number += 1
        id, rows = str(self._number), len(next(iter(inputs.values())))
        said = await self.sandbox.call(v2json.request(id, inputs, self._inputs, self._outputs))
        try:
            return v2json.response(said, id, self._outputs, rows)
        except v2json.Refused as error:
            raise SandboxError(str(error), "an error that it answered") from None
        except v2json.OutOfStep as error:
            self.sandbox.restart(str(error))
            raise

    async def structure(self) -> Tensors:
        """A program shows nothing of its inside."""
        return {}

    async def close(self) -> None:
        """End it."""
        await self.sandbox.close()


def _welcome(line: bytes) -> None:
    """A program has started once it answers; whether it takes a row of zeros is no matter."""
    try:
        v2json.response(line, _GREETING, (), 1)
    except v2json.Refused:
        return
    except WireError as error:
        raise SandboxError(f"the program started with what is no answer: {error}") from None
