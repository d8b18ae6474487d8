"""The libraries that a package asks for: locked when it is registered, so that what was approved is what runs."""

from pathlib import Path

from services.kit.environments import LOCK, Environments, check_complete, completed, is_lock, lock, pins, requirements
from services.kit.errors import Invalid
from services.kit.models import KINDS

from .domain import CODE_FORMATS, REQUIREMENTS, Manifest

_FOR_RECIPES = ("pyarrow",)


async def locked(said: Manifest, files: Path, names: list[str], *, timeout_s: float) -> tuple[Manifest, list[str]]:
    """The manifest and the files of a package whose requirements are a lock; as they are where it brings none.

    Code always has libraries of its own: what it names, and what its format needs. Raises Invalid, Unavailable.
    """
    asked = said.requirements or (REQUIREMENTS if said.format in CODE_FORMATS and REQUIREMENTS in names else None)
    if asked is None and said.format not in CODE_FORMATS:
        return said, names
    if said.format not in KINDS:
        raise Invalid(f"requirements: a model of format {said.format} needs no libraries of its own", "requirements")
    text = (files / asked).read_bytes() if asked else b""
    needed = (*KINDS[said.format].distributions, *(_FOR_RECIPES if said.recipe else ()))
    if is_lock(text):
        check_complete(pins(text), needed)
        return said.model_copy(update={"requirements": asked}), names
    (files / LOCK).write_bytes(await lock(completed(requirements(text), needed), timeout_s=timeout_s))
    return said.model_copy(update={"requirements": LOCK}), sorted({*names, LOCK})


async def installed(said: Manifest, files: Path, environments: Environments) -> Path | None:
    """The folder of the libraries that a package brings; None for one that runs on the platform's."""
    return await environments.built((files / said.requirements).read_bytes()) if said.requirements else None
