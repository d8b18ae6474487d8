"""HTTP in: batches."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from contracts import Name, Version
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.errors import Invalid, TooLarge
from services.kit.http import Page, Who, page
from services.kit.inputs import as_cursor, from_cursor, uuid
from services.kit.service import router as new_router
from services.kit.strict import refused, strict_json
from services.kit.turns import Turns

from ..openapi import BATCH_BODY, BATCH_QUERY
from .domain import Job, State
from .formats import MEDIA_TYPES, ResultFormat
from .places import Output, Place
from .usecases import LARGEST_BYTES, Batches

PATH = "/v1/batches"
LARGEST_JSON = 16 * 1024**2
"""Of rows as JSON, which are in memory as a whole: files are for many rows."""
_LINES = "application/x-ndjson"
_FILES = {
    "application/vnd.apache.parquet", "application/parquet", "application/octet-stream", "text/csv", _LINES,
    "application/vnd.apache.arrow.file", "application/vnd.apache.arrow.stream",
}  # fmt: skip


_VERSION: TypeAdapter[Version] = TypeAdapter(Version)


class BatchView(BaseModel):
    """One job and how far it is."""

    id: UUID
    endpoint: str
    unit: str
    application: str
    state: State
    version: int | None
    """That was asked for; None: the champion."""
    file_name: str
    rows_total: int
    rows_done: int
    rows_failed: int
    reason: str | None
    result_digest: str | None
    result: str | None
    """Where to take the result, once there is one."""
    created_at: datetime
    finished_at: datetime | None
    schedule: UUID | None
    """That made it."""
    host: str | None
    """The scorer host that alone has its input, since that has sensitive columns: until its end it waits for this one;
    None: any host can do it."""
    summary: dict[str, Any] | None
    """Of a batch that is done: `rows`, `refused`, `decisions`, and `drift` of its features against the baseline."""

    @classmethod
    def of(cls, job: Job) -> "BatchView":
        """A job as a caller sees it."""
        path = f"{PATH}/{job.id}/result" if job.result_digest else None
        plain = {name: getattr(job, name) for name in cls.model_fields if name not in ("result", "summary")}
        plain["reason"] = job.reason or job.waits_for
        return cls(**plain, result=path, summary=orjson.loads(job.summary) if job.summary else None)


def router(batches: Batches, turns: Turns) -> APIRouter:
    """The routes; `large_bodies` of the service must let `PATH` take `LARGEST_BYTES`."""
    routes = new_router(tags=["batches"])

    @routes.post(PATH, status_code=202, openapi_extra={"requestBody": BATCH_BODY, "parameters": BATCH_QUERY})
    async def submit(request: Request, response: Response, caller: Who) -> BatchView:
        """Hand in a file: multipart (`endpoint`, `file`), the file as the body with `?endpoint=`, or JSON rows."""
        allow(caller, "inference.score")
        with turns.turn(caller.actor):
            async with _upload(request, batches.room()) as sent:
                job = await _submitted(batches, caller, sent)
        response.headers["Location"] = f"{PATH}/{job.id}"
        return BatchView.of(job)

    @routes.get(PATH)
    async def latest(
        caller: Who, endpoint: Name | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: str | None = None,
    ) -> Page[BatchView]:  # fmt: skip
        allow(caller, "inference.score")
        after = from_cursor(cursor, uuid)
        found = await batches.latest(endpoint, limit + 1, after[0] if after else None)
        return page([BatchView.of(j) for j in found], limit, as_cursor(found[limit - 1].id) if found[limit:] else None)

    @routes.get(PATH + "/{id}")
    async def show(id: UUID, caller: Who) -> BatchView:
        allow(caller, "inference.score")
        return BatchView.of(await batches.show(id))

    @routes.post(PATH + "/{id}/cancel")
    async def cancel(id: UUID, caller: Who) -> BatchView:
        """Score no more of it. What was decided stays decided and logged; there is no result. 409 where it is at its
        end; a batch that is cancelled already stays so."""
        allow(caller, "inference.score")
        return BatchView.of(await batches.cancel(id, caller))

    @routes.get(PATH + "/{id}/result")
    async def result(id: UUID, caller: Who, format: ResultFormat = "parquet") -> StreamingResponse:
        """The result: Parquet, or as `?format=csv`, `jsonl` or `arrow` (a stream)."""
        allow(caller, "inference.score")
        digest, content = await batches.result(id, format)
        headers = {"Content-Disposition": f'attachment; filename="{id}.{format}"', "Fairlead-Digest": digest}
        return StreamingResponse(content, media_type=MEDIA_TYPES[format], headers=headers)

    return routes


class _Members(BaseModel):
    """A batch as JSON: rows, or where they are; and where the result goes besides."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str = Field(min_length=1)
    version: Version | None = None
    rows: list[dict[str, Any]] | None = Field(default=None, min_length=1)
    input: Place | None = None
    output: Output | None = None


@dataclass
class _Sent:
    """What was sent, however it was."""

    endpoint: str
    path: Path
    """Of the file; where `source` is set, of the file that it becomes."""
    name: str
    media_type: str
    output: Output | None = None
    source: Place | None = None
    version: int | None = None


async def _submitted(batches: Batches, caller: Caller, sent: _Sent) -> Job:
    endpoint, version, output = sent.endpoint, sent.version, sent.output
    if sent.source:
        return await batches.take(caller, endpoint, sent.source, output, sent.path, LARGEST_BYTES, version)
    return await batches.submit(caller, endpoint, sent.path, sent.name, sent.media_type, output, version)


@asynccontextmanager
async def _upload(request: Request, room: AbstractContextManager[Path]) -> AsyncIterator[_Sent]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    with room as folder:
        path = folder / "upload"
        if media_type == "multipart/form-data":
            yield await _multipart(request, path)
        elif media_type == "application/json":
            yield await _json(request, path)
        elif media_type in _FILES:
            said = request.query_params
            endpoint, version = _endpoint(said.get("endpoint")), _version(said.get("version"))
            await _save(request.stream(), path)
            yield _Sent(endpoint, path, said.get("file_name", "body"), media_type, version=version)
        else:
            raise Invalid("send multipart/form-data with `endpoint` and `file`, a Parquet, CSV, JSON Lines or "
                          "Arrow file as the body, or JSON", "Content-Type")  # fmt: skip


_FIELDS = frozenset({"endpoint", "file", "version"})


async def _multipart(request: Request, path: Path) -> _Sent:
    try:
        async with request.form(max_files=1, max_fields=10) as form:
            files = [part for part in form.values() if isinstance(part, UploadFile)]
            if not files:
                raise Invalid("the form has no file", "file")
            if strange := sorted(form.keys() - _FIELDS):
                raise Invalid(f"the form has a field that a batch does not know: {strange[0][:100]}", strange[0][:100])
            endpoint, version = _endpoint(form.get("endpoint")), _version(form.get("version"))
            await asyncio.to_thread(_copy, files[0], path)
            name, media_type = files[0].filename or "upload", files[0].content_type or ""
            return _Sent(endpoint, path, name, media_type, version=version)
    except HTTPException as error:
        raise Invalid(f"the form cannot be read: {error.detail[:200]}") from None


async def _json(request: Request, path: Path) -> _Sent:
    """`{"endpoint": …, "rows": [{column: value}]}` for few rows, or `{"endpoint", "input": {"connection", "path"}}`."""
    await _save(request.stream(), path, LARGEST_JSON)
    body: Any = await asyncio.to_thread(lambda: strict_json(path.read_bytes()))
    if not isinstance(body, dict):
        raise Invalid("the body is no JSON object", "body")
    try:
        said = _Members.model_validate(body)
    except ValidationError as error:
        raise refused(error.errors(include_url=False, include_input=False), body, "body") from None
    if (said.rows is None) == (said.input is None):
        raise Invalid("send one of `rows`, a list of objects that is not empty, and `input`", "rows")
    if said.rows is not None:
        await asyncio.to_thread(as_lines, said.rows, path)
    return _Sent(said.endpoint, path, "rows.json", _LINES, said.output, said.input, said.version)


def as_lines(rows: list[dict[str, Any]], path: Path) -> None:
    """As JSON Lines: what is wrong with a row is said of it there."""
    with path.open("w") as to:
        to.writelines(json.dumps(row) + "\n" for row in rows)


def _endpoint(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid("`endpoint` is missing", "endpoint")
    return value


def _version(value: object) -> int | None:
    if value is None:
        return None
    try:
        return _VERSION.validate_strings(value)
    except ValidationError:
        raise Invalid("`version` is no number of a version", "version") from None


def _copy(file: UploadFile, path: Path) -> None:
    size = 0
    with path.open("wb") as to:
        while piece := file.file.read(1024 * 1024):
            size += len(piece)
            if size > LARGEST_BYTES:
                raise TooLarge(f"the file is larger than {LARGEST_BYTES} bytes")
            to.write(piece)


async def _save(pieces: AsyncIterator[bytes], path: Path, largest: int = LARGEST_BYTES) -> None:
    size = 0
    with path.open("wb") as to:
        async for piece in pieces:
            size += len(piece)
            if size > largest:
                raise TooLarge(f"the body is larger than {largest} bytes")
            to.write(piece)
