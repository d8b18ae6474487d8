"""From a format to its runtime."""

import asyncio

from contracts import Format, ModelSchema

from ..metering import metered
from ..packages import ModelFile
from ..settings import ScorerSettings
from . import Remote, Runtime


async def load(
    format: Format, model: ModelFile, schema: ModelSchema, settings: ScorerSettings, unit: str
) -> tuple[Runtime | Remote, float]:
    """Open a model file, its bytes checked once more; and the processor time that this took of other threads.

    `unit`: whose connections it may use.

    Raises CannotLoad, also where it cannot be opened safely here, or Unavailable.
    """
    if format == "onnx":
        from .onnx import OnnxRuntime

        return await asyncio.to_thread(metered, lambda: OnnxRuntime(model.read(), schema))
    if format == "external":
        from .external import ExternalRuntime

        return await ExternalRuntime.start(model, schema, settings, unit), 0.0
    from .sandboxed import SandboxedRuntime

    return await SandboxedRuntime.start(format, model, schema, settings), 0.0
