"""The way of a package into the house: format by magic, unpacked by ourselves, inspected in the sandbox, stored."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts import Format, Training
from services.kit.environments import Environments
from services.kit.errors import Invalid
from services.kit.inputs import check_texts
from services.kit.objects import Objects
from services.kit.rules import check_rules
from services.kit.signing import canonical
from services.kit.turns import Turns

from . import archive, libraries, manifest, sandboxed
from .domain import (
    CODE_FORMATS,
    DECLARED_FORMATS,
    MANIFEST,
    MLMODEL,
    MODEL_FILES,
    Candidate,
    Inspection,
    Manifest,
    Member,
)
from .magic import kind_of
from .settings import CatalogSettings
from .upload import Pace


@dataclass(frozen=True)
class Pack:
    """A package that lies unpacked and packed in a folder that goes away."""

    manifest: Manifest
    folder: Path
    names: list[str]
    file: Path
    digest: str


class Intake:
    """Makes candidates out of uploads and out of what the retrainer left in the object store."""

    def __init__(self, settings: CatalogSettings, objects: Objects) -> None:
        self._settings = settings
        self._objects = objects
        self._room = settings.home.absolute() / "run" / "catalog"
        self._slots = asyncio.Semaphore(settings.inspections)
        # One slot is always another unit's: models that hang hold up nobody but their own unit.
        self._shares = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(max(1, settings.inspections - 1)))
        self._environments = Environments.of(settings)
        self._turns = Turns("packages", settings.uploads, settings.uploads_each)
        self._tidy()

    @contextmanager
    def turn(self, caller: str) -> Iterator[Pace]:
        """One of the few uploads at a time, and how fast it must come. Raises Busy."""
        with self._turns.turn(caller):
            yield Pace(self._settings.upload_grace_s, self._settings.upload_bytes_s)

    @asynccontextmanager
    async def folder(self) -> AsyncGenerator[Path]:
        """A folder for one intake."""
        self._room.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._room) as made, _held(Path(made)):
            yield Path(made)

    def _tidy(self) -> None:
        """Remove what killed processes left: folders that nobody holds."""
        for folder in self._room.glob("*/"):
            with suppress(OSError), _held(folder):
                shutil.rmtree(folder)

    async def package(self, digest: str) -> AsyncIterator[bytes]:
        """A package in chunks, checked before the first. Raises NotFound, Unavailable, NoRoom, Altered."""
        self._room.mkdir(parents=True, exist_ok=True)
        return await self._objects.stream_checked(digest, self._room)

    async def pack(self, upload: Path, work: Path, overrides: dict[str, Any]) -> Pack:
        """Read an upload and write the canonical package, its requirements locked.

        Raises Invalid or TooLarge naming what is wrong, Unavailable where libraries cannot be looked up.
        """
        said, files, names, changed = await asyncio.to_thread(self._read, upload, work, overrides)
        locked, names = await libraries.locked(said, files, names, timeout_s=self._settings.environment_s)
        return await asyncio.to_thread(_packed, locked, files, names, work, changed=changed or locked != said)

    async def fetch(self, digest: str, work: Path) -> Pack:
        """Read a package of the object store, as it is."""
        file = await self._objects.fetch(digest, work / "package.zip")
        files, names = await asyncio.to_thread(self._unpack, file, work / "files")
        said = manifest.read(files / MANIFEST, {})
        _check_files(said, files, names)
        return Pack(said, files, names, file, digest)

    async def candidate(self, pack: Pack, training: Training, unit: str = "") -> Candidate:
        """Inspect a package and store it with its baseline; `unit`: whose connections it may use."""
        packages = await libraries.installed(pack.manifest, pack.folder, self._environments)
        async with self._shares[unit], self._slots:
            seen = await sandboxed.inspection(
                self._settings, pack.folder, pack.file, pack.manifest, pack.names, packages, unit
            )  # fmt: skip
        return await self._stored(pack, seen, training)

    async def _stored(self, pack: Pack, seen: Inspection, training: Training) -> Candidate:
        members = await asyncio.to_thread(lambda: [_member(pack.folder, name) for name in sorted(pack.names)])
        data = {each.name: each.digest for each in members}.get(pack.manifest.training or "")
        told = {"rows": training.rows or seen.training_rows, "data_digest": training.data_digest or data}
        metrics = training.metrics or pack.manifest.metrics
        if pack.manifest.monitor:
            check_rules(pack.manifest.monitor.rules or {}, seen.model_schema, "monitor.rules")
        made = Candidate(
            manifest=pack.manifest,
            digest=await self._objects.put_file(pack.file),
            members=tuple(members),
            model_schema=seen.model_schema,
            scan=seen.scan,
            training=training.model_copy(update={**told, "metrics": metrics}),
            environment=seen.environment,
            baseline_digest=await self._objects.put(canonical(seen.baseline)) if seen.baseline else None,
        )
        check_texts(made.model_dump(mode="json"), "package")
        return made

    def _read(
        self, upload: Path, work: Path, overrides: dict[str, Any]
    ) -> tuple[Manifest, Path, list[str], bool]:  # fmt: skip
        """What an upload says and holds, and whether `fairlead.yaml` must be written anew."""
        files, kind = work / "files", kind_of(upload)
        if kind not in ("zip", "gzip"):
            said, names = _wrap(upload, files, kind, overrides)
        else:
            files, names = self._unpack(upload, files)
            said = _manifest(files, names, overrides)
        _check_files(said, files, names)
        return said, files, names, bool(overrides) or MANIFEST not in names

    def _unpack(self, file: Path, to: Path) -> tuple[Path, list[str]]:
        """The folder that holds `fairlead.yaml` or `MLmodel`, and the files in it."""
        to.mkdir()
        names = archive.unpack(file, to, self._settings.caps)
        if not {MANIFEST, MLMODEL}.isdisjoint(names):
            return to, names
        # `zip -r model.zip model/` puts everything below one folder.
        only, *others = {name.split("/")[0] for name in names}
        if not others and not {f"{only}/{MANIFEST}", f"{only}/{MLMODEL}"}.isdisjoint(names):
            return to / only, [name.removeprefix(f"{only}/") for name in names]
        raise Invalid(f"the archive holds no {MANIFEST} at its root, nor is it an MLflow model", "package")


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder as long as this process lives. Raises BlockingIOError where another one does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _wrap(upload: Path, files: Path, kind: Format, overrides: dict[str, Any]) -> tuple[Manifest, list[str]]:
    """A bare model file becomes a package of itself."""
    if "name" not in overrides:
        raise Invalid("name: a bare model file does not say its name", "name")
    said = manifest.validated(Manifest, {"format": kind, "model": MODEL_FILES[kind], **overrides})
    files.mkdir()
    upload.rename(files / said.model)
    return said, [said.model]


def _manifest(files: Path, names: list[str], overrides: dict[str, Any]) -> Manifest:
    """What a package says of itself; an MLflow model says it in a file of its own."""
    if MANIFEST in names:
        return manifest.read(files / MANIFEST, overrides)
    if "name" not in overrides:
        raise Invalid("name: an MLflow model does not say its name", "name")
    return manifest.validated(Manifest, {"format": "mlflow", "model": MLMODEL, **overrides})


def _packed(said: Manifest, files: Path, names: list[str], work: Path, *, changed: bool) -> Pack:
    """The canonical package."""
    if changed:
        (files / MANIFEST).write_bytes(manifest.dump(said))
    names = sorted({*names, MANIFEST})
    archive.write(files, names, file := work / "package.zip")
    with file.open("rb") as packed:
        digest = "sha256:" + hashlib.file_digest(packed, "sha256").hexdigest()
    return Pack(said, files, names, file, digest)


def _check_files(said: Manifest, files: Path, names: list[str]) -> None:
    """What the manifest names is there and is of the format that it says."""
    named = {name: getattr(said, name) for name in ("model", "recipe", "training", "requirements")}
    for field, name in named.items():
        if name is not None and name not in names:
            raise Invalid(f"{field}: {name} is not in the package", field)
    if said.command and said.command[0].startswith("./") and said.command[0].removeprefix("./") not in names:
        raise Invalid(f"command: {said.command[0]} is not in the package", "command")
    if said.format in CODE_FORMATS | DECLARED_FORMATS:
        return  # code has no magic: its sandbox says what it is
    kind = kind_of(files / said.model)
    if kind != said.format:
        raise Invalid(f"model: {said.model} is {kind}, the manifest says {said.format}", "model")


def _member(folder: Path, name: str) -> Member:
    path = folder / name
    with path.open("rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return Member(name=name, size=path.stat().st_size, digest=digest)
