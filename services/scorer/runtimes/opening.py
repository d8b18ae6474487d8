"""From a format to its runtime."""

import asyncio

from contracts import Format, ModelSchema

from ..engines import ThreadClock
from ..packages import ModelFile
from ..settings import ScorerSettings
from . import Remote, Runtime


async def load(
    format: Format, model: ModelFile, schema: ModelSchema, settings: ScorerSettings, unit: str, clock: ThreadClock
) -> Runtime | Remote:
    """Open a model file, its bytes checked once more. `unit`: whose connections it may use; `clock`: for what this
    takes of other threads.

    Raises CannotLoad, also where it cannot be opened safely here, or Unavailable.
    """
    if format == "onnx":
        from .onnx import opened

        if (made := await asyncio.to_thread(clock.run, lambda: opened(model.read(), schema))) is not None:
            return made
    if format == "external":
        from .external import ExternalRuntime

        return await ExternalRuntime.start(model, schema, settings, unit)
    from .sandboxed import SandboxedRuntime

    return await SandboxedRuntime.start(format, model, schema, settings)
