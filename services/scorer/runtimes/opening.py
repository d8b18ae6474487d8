"""From a format to its runtime."""

import asyncio

from contracts import Format, ModelSchema

from ..metering import metered
from ..packages import ModelFile
from ..settings import ScorerSettings
from . import Remote, Runtime


async def load(
    format: Format, model: ModelFile, schema: ModelSchema, settings: ScorerSettings
) -> tuple[Runtime | Remote, float]:
    """Open a model file, its bytes checked once more; and the processor time that this took of other threads.

    Raises CannotLoad, also where it cannot be opened safely here, or Unavailable.
    """
    if format == "onnx":
        from .onnx import OnnxRuntime

        return await asyncio.to_thread(metered, lambda: OnnxRuntime(model.read(), schema))
    from .sandboxed import SandboxedRuntime

    return await SandboxedRuntime.start(format, model, schema, settings), 0.0
