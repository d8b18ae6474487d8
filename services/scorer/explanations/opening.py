"""A registered version opened to be asked: its model, what it tells of its structure, and its reference rows."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import numpy as np

from contracts import TensorSpec
from services.kit.errors import Conflict, Unavailable
from services.kit.models.feeding import feed, texts_of
from services.kit.models.wire import WireError, unpack
from services.kit.objects import Objects
from services.kit.sandbox import SandboxError, SandboxUnavailable, run_sandboxed

from ..engines import ThreadClock
from ..packages import ModelFile, Packages
from ..runtimes import Remote, Runtime
from ..runtimes.opening import load
from ..runtimes.sandboxed import SandboxedRuntime
from ..settings import ScorerSettings
from . import background, onnx_structure
from .coding import Coding, checked
from .domain import Array, Arrays
from .gateway import Version
from .kept import Kept, Opened

Ask = Callable[[Array], Awaitable[Arrays]]
"""Rows [m, columns] to what the model answers."""

OTHER_ROWS = 1000
"""Of the package's training rows, at most, evenly spaced."""
_CALL_BYTES = 16 * 1024 * 1024
"""Of rows that a model is asked about at once: one of long texts may be asked about many."""


class Models:
    """Opens versions; a few sandboxes stay open for whoever asks next."""

    def __init__(self, settings: ScorerSettings, objects: Objects) -> None:
        self._settings = settings
        self._objects = objects
        self._packages = Packages(settings.run_folder.absolute(), settings.package_bytes)
        self._kept = Kept(settings.explained_kept, settings.explained_kept_mb, settings.explained_kept_s)

    def close(self) -> None:
        """End the models that are kept."""
        self._kept.close()

    async def _file(self, digest: str) -> ModelFile:
        if not await asyncio.to_thread(self._packages.whole, digest):
            await self._objects.fetch(digest, self._packages.path(digest), kept=True)
        return await asyncio.to_thread(self._packages.unpack, digest)

    async def _reference_rows(self, file: ModelFile, version: Version) -> tuple[Coding, Array]:
        """Rows that the package brings, [m, columns]. Raises Conflict where it brings none."""
        if file.training is None:
            raise Conflict(
                "the version's package brings no training rows: there is nothing to compare the decision with"
            )
        columns, texts = version.model_schema.columns, texts_of(version.model_schema)
        job = {
            "package": str(file.package), "training": file.training, "most": OTHER_ROWS,
            "columns": [column.name for column in columns], "texts": sorted(texts),
        }  # fmt: skip
        try:
            said = await run_sandboxed(
                background.ENTRY, json.dumps(job).encode(), preload=background.PRELOAD, readable=[file.package],
                memory_mb=self._settings.sandbox_memory_mb, deadline_s=self._settings.sandbox_load_s, name="background",
            )  # fmt: skip
            found = unpack(said)
            places = [place for place, column in enumerate(columns) if column.name in texts]
            classes = {place: tuple(found[f"classes.{place}"].tolist()) for place in places}
            return checked(columns, classes, found["rows"]), found["rows"]
        except (SandboxError, WireError, KeyError) as error:
            raise Conflict(f"the package's training rows cannot be read: {str(error)[:200]}") from None
        except SandboxUnavailable as error:
            raise Unavailable(str(error)) from None

    @asynccontextmanager
    async def opened(self, version: Version, unit: str) -> AsyncGenerator[Opened]:
        """The model with its reference rows: kept from the last explanation, or opened now.

        The bytes are checked and the catalog is asked in either case. What is no longer registered is not kept.
        """
        file = await self._file(version.digest)

        async def load_it() -> Opened:
            coding, rows = await self._reference_rows(file, version)
            runtime = await load(version.format, file, version.model_schema, self._settings, unit, ThreadClock())
            try:
                # Texts stand as numbers here which no structure of the model's own knows.
                told = {} if coding.classes else await _structure(runtime, file)
            except BaseException:
                runtime.close()
                raise
            return Opened(runtime, told, coding, rows)

        key = f"{unit} {version.digest} {version.format} {version.model_schema.model_dump_json()}"
        async with self._kept.lent(key, load_it, keep=version.is_registered) as made:
            yield made


def asking(runtime: Runtime | Remote, coding: Coding, inputs: tuple[TensorSpec, ...], params: bytes = b"") -> Ask:
    """How a model is asked about coded rows, with these `params` set."""

    async def answer(rows: Array) -> Arrays:
        fed = feed(inputs, coding.fed(rows))
        if hasattr(runtime, "call"):
            return await cast(Remote, runtime).call(fed, params)
        return await asyncio.to_thread(cast(Runtime, runtime).predict, fed)

    return _in_parts(answer, max(1, _CALL_BYTES // coding.row_bytes))


def _in_parts(answer: Ask, most: int) -> Ask:
    """Asks about at most so many rows at once."""

    async def ask(rows: Array) -> Arrays:
        if len(rows) <= most:
            return await answer(rows)
        parts = [await answer(rows[start : start + most]) for start in range(0, len(rows), most)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return ask


async def _structure(runtime: object, file: ModelFile) -> Arrays:
    if isinstance(runtime, SandboxedRuntime):
        return await runtime.structure()
    if file.name.endswith(".onnx"):
        return await asyncio.to_thread(onnx_structure.structure, file.read()) or {}
    return {}
