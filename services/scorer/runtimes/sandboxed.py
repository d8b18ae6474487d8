"""Models in a sandboxed worker process: opening one may run code, or trust a file's numbers too far."""

import asyncio
from collections import deque
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from contracts import Format, ModelSchema
from services.kit.environments import Environments
from services.kit.errors import Invalid, Unavailable
from services.kit.models import is_code
from services.kit.models.process import ProcessModel, Program
from services.kit.models.sandboxed import SandboxedModel, asked_of
from services.kit.models.wire import WireError, question
from services.kit.models.worker import Opening
from services.kit.sandbox import SandboxAway, SandboxDeadline, SandboxDied, SandboxError, SandboxUnavailable

from ..packages import ModelFile
from ..settings import ScorerSettings
from . import Arrays
from .declared import manifest_of
from .errors import CannotLoad, ModelFailed, TookTooLong
from .fitted import fitted

_SUSPECTS = 16


class SandboxedRuntime:
    """One warm worker for one version."""

    calls = 1

    def __init__(self, model: SandboxedModel | ProcessModel, schema: ModelSchema) -> None:
        self._model = model
        self._outputs = schema.outputs
        self._suspects: deque[bytes] = deque(maxlen=_SUSPECTS)
        """Digests of inputs over which one worker ended. It may have been killed from outside: an input is to blame
        only when it ends a second one, be it asked for again later since the next worker was not up in time."""

    @classmethod
    async def start(
        cls, format: Format, model: ModelFile, schema: ModelSchema, settings: ScorerSettings
    ) -> "SandboxedRuntime":
        """Load the file behind the sandbox's walls, which check its bytes at each start.

        Raises CannotLoad, or Unavailable where the libraries that it brings cannot be fetched now.
        """
        sandboxed = await _model(format, model, schema, settings)
        try:
            await sandboxed.start()
        except (SandboxError, SandboxUnavailable) as error:  # a machine without the walls will not have them later
            await sandboxed.close()
            raise CannotLoad(f"the model cannot be opened: {str(error)[:500]}") from None
        return cls(sandboxed, schema)

    async def call(self, inputs: Arrays, params: bytes = b"") -> Arrays:
        try:
            answer = await self._ask(inputs, params)
        except SandboxDeadline:
            raise TookTooLong("the model took too long over this input", "it took longer than its deadline") from None
        except (SandboxError, WireError) as error:
            # Its own words may hold values of the input: they stay here.
            raise ModelFailed(_about(error), _place(error)) from None
        rows = len(next(iter(inputs.values())))
        return {spec.name: fitted(answer, spec, rows) for spec in self._outputs}

    async def structure(self) -> Arrays:
        """The model's trees or coefficients; nothing where it has none that can be read."""
        try:
            return await self._model.structure()
        except (SandboxError, WireError):
            return {}

    @property
    def down(self) -> str:
        return self._model.sandbox.down

    @property
    def away(self) -> str:
        return self.down

    @property
    def cpu_s(self) -> float:
        return self._model.sandbox.cpu_s

    @property
    def rss(self) -> int:
        return self._model.sandbox.rss

    async def _ask(self, inputs: Arrays, params: bytes) -> Arrays:
        """Raises Unavailable where no worker could be asked: that is not the input's doing."""
        while True:
            try:
                if params:
                    return await cast(SandboxedModel, self._model).predict(inputs, params)
                return await self._model.predict(inputs)
            except SandboxDeadline:
                raise
            except SandboxAway:
                raise Unavailable("the model's process is away and is started again; try again") from None
            except SandboxDied:
                if self._is_second(question(inputs, params)):
                    raise

    def _is_second(self, asked: bytes) -> bool:
        """Whether a worker ended over this input before."""
        digest = sha256(asked).digest()
        if digest in self._suspects:
            self._suspects.remove(digest)
            return True
        self._suspects.append(digest)
        return False

    def close(self) -> None:
        self._closing = asyncio.ensure_future(self._model.close())


async def _model(
    format: Format, model: ModelFile, schema: ModelSchema, settings: ScorerSettings
) -> SandboxedModel | ProcessModel:
    bounds: dict[str, Any] = {
        "memory_mb": settings.sandbox_memory_mb, "deadline_s": settings.sandbox_deadline_s,
        "load_s": settings.sandbox_load_s, "name": model.path.parent.name[:12],
    }  # fmt: skip
    if format != "process":
        return SandboxedModel(_opening(format, model, schema), packages=await _packages(model, settings), **bounds)
    command = manifest_of(model).get("command")
    if not isinstance(command, list) or not command:
        raise CannotLoad("the package's fairlead.yaml names no command")
    program = Program([*map(str, command)], model.package, model.package_digest, asked_of(schema))
    try:
        return ProcessModel(program, runtimes=settings.runtimes, **bounds)
    except Invalid as error:
        raise CannotLoad(error.message) from None


def _opening(format: Format, model: ModelFile, schema: ModelSchema) -> Opening:
    """What the model's sandbox is told; code is opened out of its whole package."""
    if is_code(format):
        return Opening(format, str(model.package), model.package_digest, model.name, asked_of(schema))
    return Opening(format, str(model.path), model.digest, model.name, asked_of(schema))


async def _packages(model: ModelFile, settings: ScorerSettings) -> Path | None:
    """The libraries that a model brings; None for one that runs on the platform's."""
    if model.lock is None:
        return None
    try:
        return await Environments.of(settings).built(model.lock)
    except Invalid as error:
        raise CannotLoad(f"the model's libraries cannot be installed: {error.message}") from None


def _place(error: SandboxError | WireError) -> str:
    match error:
        case SandboxError():
            return error.place or ("its process ended" if isinstance(error, SandboxDied) else "it refused the input")
        case _:
            return ""


def _about(error: Exception) -> str:
    match error:
        case SandboxDied():
            return "the model's process ended over this input"
        case _:
            return "the model does not take this input"
