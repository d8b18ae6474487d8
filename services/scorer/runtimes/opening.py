"""From a format to its runtime."""

import asyncio
from pathlib import Path

from contracts import Format, ModelSchema

from ..settings import ScorerSettings
from . import Remote, Runtime


async def load(format: Format, path: Path, schema: ModelSchema, settings: ScorerSettings) -> Runtime | Remote:
    """Open a verified model file. Raises CannotLoad, or Unavailable where this machine cannot open it safely."""
    if format == "onnx":
        from .onnx import OnnxRuntime

        return await asyncio.to_thread(OnnxRuntime, path, schema)
    from .sklearn import SklearnRuntime

    return await SklearnRuntime.start(path, schema, settings)
