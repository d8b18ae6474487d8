"""Models of one table in a sandboxed worker process: opening one may run code, or trust a file's numbers too far."""

import asyncio

import numpy as np

from contracts import Format, ModelSchema, TensorSpec
from services.kit.errors import Unavailable
from services.kit.models import preload
from services.kit.sandbox import Sandbox, SandboxAway, SandboxDeadline, SandboxDied, SandboxError, SandboxUnavailable

from ..packages import ModelFile
from ..settings import ScorerSettings
from ..v2.tensors import NUMPY
from . import Arrays
from .errors import CannotLoad, ModelFailed
from .table_worker import WireError, argument, read_answer, request

_ENTRY = "services.scorer.runtimes.table_worker:table_model"
_ATTEMPTS = 2
"""A worker may be killed from outside: an input is to blame only when it ends a second one."""


class TableRuntime:
    """One warm worker for one version."""

    def __init__(self, sandbox: Sandbox, schema: ModelSchema) -> None:
        self._sandbox = sandbox
        self._input = schema.inputs[0]
        by_name = {spec.name: spec for spec in schema.outputs}
        self._prediction = by_name[schema.prediction]
        self._score = by_name.get(schema.score) if schema.score else None

    @classmethod
    async def start(
        cls, format: Format, model: ModelFile, schema: ModelSchema, settings: ScorerSettings
    ) -> "TableRuntime":
        """Load the file behind the sandbox's walls, which check its bytes at each start. Raises CannotLoad."""
        if len(schema.inputs) != 1 or len(schema.inputs[0].shape) != 2 or len(schema.outputs) > 2:
            raise CannotLoad("such a model takes one matrix and gives predictions and, perhaps, probabilities")
        sandbox = Sandbox(
            _ENTRY, argument(format, str(model.path), model.digest), preload=preload(format), readable=[model.path],
            deadline_s=settings.sandbox_deadline_s, memory_mb=settings.sandbox_memory_mb,
            name=model.path.parent.name[:12],
        )  # fmt: skip
        try:
            await sandbox.start()
        except (SandboxError, SandboxUnavailable) as error:  # a machine without the walls will not have them later
            await sandbox.close()
            raise CannotLoad(f"the model cannot be opened: {str(error)[:300]}") from None
        return cls(sandbox, schema)

    async def call(self, inputs: Arrays) -> Arrays:
        payload = request(inputs[self._input.name], probabilities=self._score is not None)
        try:
            predictions, probabilities = read_answer(await self._ask(payload))
        except (SandboxError, WireError) as error:
            # Its own words may hold values of the input: they stay here.
            raise ModelFailed(_about(error)) from None
        made = {self._prediction.name: _as(predictions, self._prediction)}
        if self._score is not None and probabilities is not None:
            made[self._score.name] = _as(probabilities, self._score)
        if any(len(values) != len(inputs[self._input.name]) for values in made.values()):
            raise ModelFailed("the model did not answer every row")
        return made

    @property
    def down(self) -> str:
        return self._sandbox.down

    async def _ask(self, payload: bytes) -> bytes:
        """Raises Unavailable where no worker could be asked: that is not the input's doing."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._sandbox.call(payload)
            except SandboxDeadline:
                raise
            except SandboxAway:
                if attempt == 1:
                    raise Unavailable("the model's process is away and is started again; try again") from None
                raise  # the attempt before ended it
            except SandboxDied:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        self._closing = asyncio.ensure_future(self._sandbox.close())


def _about(error: Exception) -> str:
    match error:
        case SandboxDeadline():
            return "the model took too long over this input"
        case SandboxDied():
            return "the model's process ended over this input"
        case _:
            return "the model does not take this input"


def _as(values: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """In the schema's datatype and rank."""
    if len(spec.shape) == 2 and values.ndim == 1:
        values = values.reshape(-1, 1)
    return values.astype(NUMPY[spec.datatype], copy=False)
