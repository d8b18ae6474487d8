"""From a format to its runtime."""

import asyncio

from contracts import Format, ModelSchema

from ..packages import ModelFile
from ..settings import ScorerSettings
from . import Remote, Runtime


async def load(format: Format, model: ModelFile, schema: ModelSchema, settings: ScorerSettings) -> Runtime | Remote:
    """Open a model file, its bytes checked once more. Raises CannotLoad, also where it cannot be opened safely
    here, or Unavailable."""
    if format == "onnx":
        from .onnx import OnnxRuntime

        return await asyncio.to_thread(lambda: OnnxRuntime(model.read(), schema))
    from .sandboxed import SandboxedRuntime

    return await SandboxedRuntime.start(format, model, schema, settings)
