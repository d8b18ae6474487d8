"""Where a batch's rows come from and its result goes to, in an object store that an administrator approved."""

import asyncio
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from services.kit.connections import Connections
from services.kit.connections.files import fetch, plain_path, put
from services.kit.errors import Invalid, NotFound

from .domain import Job
from .formats import FORMATS, ResultFormat, write


class Place(BaseModel):
    """A file below a connection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    path: str


class Output(Place):
    """Where a result is written, and how: as its path ends, where nothing is said, else as Parquet. `{id}` in the path
    stands for the batch's id."""

    format: ResultFormat = "parquet"

    @model_validator(mode="before")
    @classmethod
    def _as_it_ends(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "format" in given:
            return given
        ending = PurePosixPath(str(given.get("path"))).suffix.removeprefix(".")
        return given | {"format": ending} if ending in FORMATS else given


@dataclass(frozen=True)
class Places:
    """What units may use."""

    connections: Connections

    def check(self, place: Place, unit: str, field: str) -> None:
        """Raises Invalid naming the member, and Unavailable."""
        plain_path(place.path.replace("{id}", "id"), f"{field}.path")
        try:
            self.connections.objects(place.connection, unit)
        except Invalid as error:
            raise Invalid(f"{field}.{error.message}", f"{field}.connection") from None

    async def take(self, place: Place, unit: str, to: Path, most: int) -> str:
        """Copy a file; answers its version. Raises Invalid naming the member, TooLarge and Unavailable."""
        self.check(place, unit, "input")
        try:
            return await fetch(self.connections.objects(place.connection, unit), place.path, to, most)
        except Invalid as error:
            raise Invalid(f"input.{error.message}", "input.path") from None

    async def write(self, job: Job, result: Path) -> None:
        """Write a job's result where it says, if it says so. Raises NotFound where the connection is no longer there,
        and Unavailable."""
        if job.output is None:
            return
        output = Output.model_validate_json(job.output)
        try:
            connection = self.connections.objects(output.connection, job.unit)
        except Invalid as error:
            raise NotFound(f"the result cannot be written: {error.message}") from None
        converted = await asyncio.to_thread(write, result, output.format, result.with_name("converted"))
        await put(connection, output.path.replace("{id}", str(job.id)), converted)
