"""Where input files wait: in the object store; those with sensitive columns in a private folder until they are done."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from services.kit.objects import Objects

from ..settings import ScorerSettings
from .domain import Job


def folder_of(settings: ScorerSettings) -> Path:
    """Where inputs with sensitive columns wait, on this host alone."""
    return settings.run_folder / "batches"


@dataclass(frozen=True)
class Inputs:
    """`folder` is on this host; objects are anywhere."""

    objects: Objects
    folder: Path

    def path(self, id: UUID) -> Path:
        """A job's input on this host, whether it is there or not."""
        return self.folder / f"{id}.parquet"

    async def keep(self, id: UUID, upload: Path, *, private: bool) -> str:
        """Keep an input; answers its digest, or nothing where it must not become an object that stays."""
        if not private:
            return await self.objects.put_file(upload)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        await asyncio.to_thread(shutil.copyfile, upload, self.path(id))
        self.path(id).chmod(0o600)
        return ""

    async def open(self, job: Job) -> Path:
        """The file of a job, on this host. Raises NotFound, FileNotFoundError."""
        path = self.path(job.id)
        if not path.exists() and job.input_digest:
            await self.objects.fetch(job.input_digest, path)
        if not path.exists():
            raise FileNotFoundError(f"the input of batch {job.id} is on another host")
        return path

    def forget(self, job: Job) -> None:
        """Delete what this host has of a job's input; an object stays."""
        self.path(job.id).unlink(missing_ok=True)
