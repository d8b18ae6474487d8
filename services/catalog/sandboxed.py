"""The door to the sandbox: a package goes in, an inspection or a refusal comes out.

Whatever is not ONNX is opened in a sandbox of its own, on the libraries that it brings, or asked where it is. The
inspector, who reads rows and makes the baseline on the platform's libraries, asks it through here.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from services.kit.connections import Connections
from services.kit.environments import pins
from services.kit.errors import Invalid
from services.kit.models import KINDS, Asked
from services.kit.models.external import External, ExternalModel, RemoteRefused
from services.kit.models.process import ProcessModel, Program
from services.kit.models.sandboxed import SandboxedModel
from services.kit.models.wire import WireError, pack, unpack
from services.kit.models.worker import Opening
from services.kit.sandbox import Sandbox, SandboxDeadline, SandboxDied, SandboxError

from . import reference
from .domain import Inspection, Manifest
from .settings import CatalogSettings

_ENTRY = "services.catalog.inspect:inspector"
_Model = SandboxedModel | ProcessModel | ExternalModel
_OF_FIELDS = ("score", "columns", "inputs")


async def inspection(
    settings: CatalogSettings, folder: Path, file: Path, manifest: Manifest, names: list[str], packages: Path | None,
    unit: str,
) -> Inspection:  # fmt: skip
    """Open a package, unpacked in `folder` and packed in `file`; `packages`: the libraries that it brings.

    `unit`: whose connections it may use.

    Raises Invalid with what is wrong, or how a sandbox ended.
    """
    try:
        async with _model(settings, folder, file, manifest, packages, unit) as model:
            answer = await _inspected(settings, folder, manifest, names, model)
    except SandboxDeadline:
        raise Invalid(f"the package could not be inspected within {settings.inspection_s:g} s", "package") from None
    except SandboxDied as error:
        raise Invalid(f"the package ended its inspection: {str(error)[:500]}", "package") from None
    except (SandboxError, WireError) as error:
        raise Invalid(f"the package could not be inspected: {str(error)[:300]}", "package") from None
    told = orjson.loads(answer)
    if "refused" in told:
        raise Invalid(told["refused"], told["field"])
    return Inspection.model_validate(told["inspection"])


async def _inspected(
    settings: CatalogSettings, folder: Path, manifest: Manifest, names: list[str], model: _Model | None
) -> bytes:
    """The talk between the inspector and the model, to its end."""
    locked = (folder / manifest.requirements).read_bytes() if manifest.requirements else None
    pinned = None if locked is None else [f"{pin.name}=={pin.version}" for pin in pins(locked)]
    job = {"folder": str(folder), "manifest": manifest.model_dump(mode="json"), "names": names, "locked": pinned}
    inspector = Sandbox(
        _ENTRY, orjson.dumps(job), readable=[folder], memory_mb=settings.inspection_mb,
        deadline_s=settings.inspection_s, name=f"inspect {manifest.name}", once=True,
    )  # fmt: skip
    try:
        told = (await model.told()).to_json() if model else b""
        await inspector.start()
        answer = await inspector.call(told)
        while not answer.startswith(b"{"):
            assert model is not None
            answer = await inspector.call(await _predicted(settings, model, answer))
        return answer
    finally:
        await inspector.close()


async def _predicted(settings: CatalogSettings, model: _Model, feed: bytes) -> bytes:
    """The model's answer. A few rows must be answered soon: a program that hangs does so on the first of them."""
    asked = unpack(feed)
    rows, limit_s = len(next(iter(asked.values()))), settings.inspection_s
    if rows <= reference.SMOKE_ROWS:
        limit_s = min(settings.inspection_answer_s, limit_s)
    try:
        async with asyncio.timeout(limit_s):
            return pack(await model.predict(asked))
    except (TimeoutError, SandboxDeadline):
        raise Invalid(
            f"the model was opened, and then did not answer a call with {_counted(rows)} within {limit_s:g} s "
            "(FAIRLEAD_INSPECTION_ANSWER_S for a few rows, FAIRLEAD_INSPECTION_S for many)", "package",
        ) from None  # fmt: skip
    except SandboxDied:
        raise
    except (SandboxError, RemoteRefused) as error:
        raise reference.fails(str(error)) from None


def _counted(rows: int) -> str:
    return "one row" if rows == 1 else f"{rows} rows"


@asynccontextmanager
async def _model(
    settings: CatalogSettings, folder: Path, file: Path, manifest: Manifest, packages: Path | None, unit: str
) -> AsyncGenerator[_Model | None]:
    bounds: dict[str, Any] = {
        "memory_mb": settings.inspection_mb, "deadline_s": settings.inspection_s, "load_s": settings.inspection_s,
        "name": f"open {manifest.name}", "once": True,
    }  # fmt: skip
    model: _Model
    if manifest.format == "process":
        program = Program(manifest.command, file, _digest(file), _asked(manifest))
        bounds["load_s"] = min(settings.program_start_s, settings.inspection_s)
        model = ProcessModel(program, runtimes=settings.runtimes, **bounds)
    elif manifest.external:
        external = External(**manifest.external.model_dump())
        model = ExternalModel(external, _asked(manifest), Connections.of(settings), unit)
    elif manifest.format in KINDS:
        model = SandboxedModel(opening(folder, file, manifest), packages=packages, **bounds)
    else:
        yield None
        return
    try:
        await _started(model, manifest, bounds["load_s"])
        yield model
    finally:
        await model.close()


async def _started(model: _Model, manifest: Manifest, load_s: float) -> None:
    """Raises Invalid for what is no model, and for a program that says nothing."""
    try:
        await model.start()
    except SandboxDied as error:
        if not isinstance(error, SandboxDeadline):
            raise
        if manifest.format != "process":
            told = f"{manifest.model} could not be opened within {load_s:g} s (FAIRLEAD_INSPECTION_S)"
            raise Invalid(told, "package") from None
        raise Invalid(
            f"the program answered nothing within {load_s:g} s of its start (FAIRLEAD_PROGRAM_START_S): for each line "
            "on its standard input it must write a line of JSON, and flush it", "command",
        ) from None  # fmt: skip
    except SandboxError as error:
        kind, _, reason = str(error).partition(": ")
        if kind != "Unreadable":
            raise Invalid(f"{manifest.model} cannot be opened: {str(error)[:500]}", "package") from None
        if (field := reason.partition(":")[0]) in _OF_FIELDS:
            raise Invalid(reason, field) from None
        raise Invalid(f"{manifest.model} is not a readable {manifest.format} model: {reason}", "package") from None


def opening(folder: Path, file: Path, manifest: Manifest) -> Opening:
    """What the model's sandbox is told."""
    path = file if KINDS[manifest.format].is_code else folder / manifest.model
    return Opening(manifest.format, str(path), _digest(path), manifest.model, _asked(manifest), judge=True)


def _asked(manifest: Manifest) -> Asked:
    return Asked(
        columns=[column.name for column in manifest.columns], prediction=manifest.prediction, score=manifest.score,
        inputs=[each.model_dump() for each in manifest.inputs],
        outputs=[each.model_dump() for each in manifest.outputs],
    )  # fmt: skip


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
