"""Where input files wait: in the object store; those with sensitive columns in a private folder until they are done."""

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from uuid import UUID

from services.kit.objects import Objects

from ..replica import name_of
from ..settings import ScorerSettings
from .domain import Job

_UPLOADS = "upload-"


@dataclass(frozen=True)
class Inputs:
    """`folder` is on this host, whose name is `host`, and nobody else's; objects are anywhere."""

    objects: Objects
    folder: Path
    host: str
    _since: float = field(default_factory=time)
    _failed: set[UUID] = field(default_factory=set[UUID])

    @classmethod
    def of(cls, settings: ScorerSettings, objects: Objects) -> "Inputs":
        """This host's."""
        return cls(objects, settings.run_folder.absolute() / "batches", name_of(settings))

    def path(self, id: UUID) -> Path:
        """A job's input on this host, whether it is there or not."""
        return self.folder / f"{id}.parquet"

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A private folder for a file that is being taken in: it goes with the block, or is swept after a kill."""
        self._make()
        with TemporaryDirectory(prefix=_UPLOADS, dir=self.folder) as made:
            yield Path(made)

    async def keep(self, id: UUID, upload: Path, *, private: bool) -> str:
        """Keep an input; answers its digest, or nothing where it must not become an object that stays."""
        if not private:
            return await self.objects.put_file(upload)
        self._make()
        await asyncio.to_thread(shutil.copyfile, upload, self.path(id))
        self.path(id).chmod(0o600)
        return ""

    async def open(self, job: Job) -> Path:
        """The file of a job, on this host. Raises NotFound, FileNotFoundError."""
        path = self.path(job.id)
        if not path.exists() and job.input_digest:
            await self.objects.fetch(job.input_digest, path)
        if not path.exists():
            raise FileNotFoundError(f"the input of batch {job.id} was on scorer host {self.host} alone and is gone")
        return path

    def forget(self, id: UUID) -> None:
        """Delete what this host has of a job's input; an object stays."""
        self.path(id).unlink(missing_ok=True)

    def failed(self, id: UUID) -> None:
        """A job was not put in line, as far as is known: what is kept of it is swept where it is not there."""
        self._failed.add(id)

    def here(self) -> set[UUID]:
        """The jobs of which this host has the input, or part of it."""
        return {id for path in self._files() if (id := _id_of(path))}

    def sweep(self, here: Mapping[UUID, bool | None]) -> int:
        """Delete what nobody needs any more; answers how much. Blocking.

        `here`: of the jobs that were, whether they go on; None: there is no such job. Its file may be on its way into
        the line, unless that failed or an earlier process took it in.
        """
        swept = 0
        for path in self._files():
            id = _id_of(path)
            if id and id not in here:
                continue
            goes_on = here[id] if id else None
            if goes_on is False or (goes_on is None and (id in self._failed or self._is_left(path))):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                swept += 1
        return swept

    def _files(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.exists() else []

    def _is_left(self, path: Path) -> bool:
        """Whether whoever made a file is gone."""
        try:
            return path.stat().st_mtime < self._since
        except FileNotFoundError:
            return False

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)  # an object that was fetched may have made it


def _id_of(path: Path) -> UUID | None:
    try:
        return UUID(path.name.partition(".")[0])
    except ValueError:
        return None
