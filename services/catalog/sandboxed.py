"""The door to the sandbox: a folder goes in, an inspection or a refusal comes out."""

from pathlib import Path

import orjson

from services.kit.errors import Invalid
from services.kit.models import preload
from services.kit.sandbox import SandboxDeadline, SandboxDied, SandboxError, run_sandboxed

from .domain import Inspection, Manifest
from .settings import CatalogSettings

_ENTRY = "services.catalog.inspect:inspector"


async def inspection(settings: CatalogSettings, folder: Path, manifest: Manifest, names: list[str]) -> Inspection:
    """Open a package in a sandbox of its own. Raises Invalid with what is wrong, or how the sandbox ended."""
    job = {"folder": str(folder), "manifest": manifest.model_dump(mode="json"), "names": names}
    try:
        answer = await run_sandboxed(
            _ENTRY, orjson.dumps(job), preload=preload(manifest.format), readable=[folder],
            memory_mb=settings.inspection_mb, deadline_s=settings.inspection_s, name=f"inspect {manifest.name}",
        )  # fmt: skip
    except SandboxDeadline:
        raise Invalid(f"the package could not be inspected within {settings.inspection_s:g} s", "package") from None
    except SandboxDied as error:
        raise Invalid(f"the package ended its inspection: {str(error)[-300:]}", "package") from None
    except SandboxError as error:
        raise Invalid(f"the package could not be inspected: {str(error)[:300]}", "package") from None
    told = orjson.loads(answer)
    if "refused" in told:
        raise Invalid(told["refused"], told["field"])
    return Inspection.model_validate(told["inspection"])
