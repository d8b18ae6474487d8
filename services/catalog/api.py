"""HTTP in: use cases, models, versions."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import AwareDatetime, StringConstraints

from contracts import ModelSchema, Name, Scan, Training
from services.kit.auth import allow
from services.kit.context import Caller
from services.kit.http import Body, Page, Who, page
from services.kit.inputs import Version, as_cursor, from_cursor, name
from services.kit.inputs import version as version_number
from services.kit.service import router as new_router

from . import card, upload
from .domain import EXECUTES_CODE, Listed, Member, ModelVersion, Sla, UseCase
from .lineage import Lineage
from .manifest import validated
from .usecases import Catalog, acting_unit

Model = Annotated[Name, Path()]
Number = Annotated[Version, Path()]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=500)]
AnyState = Literal["registered", "quarantined", "retired", "serving"]
Words = Annotated[str, StringConstraints(max_length=200)]


class UseCaseBody(Body):
    """A use case to register; `unit` may be left out where the token names one."""

    use_case: Name
    title: str
    owner: str
    risk_tier: int
    unit: Name | None = None
    purpose: str = ""
    sla: Sla = Sla()
    kpi_targets: dict[str, float] = {}
    protected: list[str] = []
    permitted_data: list[str] = []


class Retirement(Body):
    """Why a version is taken out of service; it is audited."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class VersionAnswer(Body):
    """A version: immutable bytes, what they take and give, how they were made."""

    model: str
    version: int
    unit: str
    digest: str
    state: AnyState
    format: str
    executes_code: bool
    retrainable: bool
    model_schema: ModelSchema
    baseline_digest: str | None
    scan: Scan
    training: Training
    tags: tuple[str, ...]
    description: str
    registered_by: str
    registered_at: AwareDatetime
    retired_by: str | None
    retired_reason: str | None

    @classmethod
    def of(cls, made: ModelVersion) -> "VersionAnswer":
        """What is told of a version; its files and its environment have paths of their own."""
        candidate, manifest = made.candidate, made.candidate.manifest
        return cls(
            model=made.model, version=made.version, unit=made.unit, digest=candidate.digest, state=made.state,
            format=manifest.format, executes_code=EXECUTES_CODE[manifest.format],
            retrainable=manifest.recipe is not None, model_schema=candidate.model_schema,
            baseline_digest=candidate.baseline_digest, scan=candidate.scan, training=candidate.training,
            tags=manifest.tags, description=manifest.description, registered_by=made.registered_by,
            registered_at=made.registered_at, retired_by=made.retired_by, retired_reason=made.retired_reason,
        )  # fmt: skip


class ModelItem(Body):
    """A model as a list shows it: its newest version, and whether any of its versions serves."""

    model: str
    unit: str
    state: AnyState
    latest_version: int
    format: str
    description: str
    tags: tuple[str, ...]
    registered_at: AwareDatetime

    @classmethod
    def of(cls, listed: Listed) -> "ModelItem":
        """What a list shows of a model."""
        return cls(
            model=listed.model, unit=listed.unit, state="serving" if listed.serves else listed.state,
            latest_version=listed.version, format=listed.format, description=listed.description,
            tags=listed.tags, registered_at=listed.registered_at,
        )  # fmt: skip


class ModelAnswer(ModelItem):
    """A model with its versions, the newest first; `next` is the cursor that leads on to earlier ones."""

    versions: list[VersionAnswer]
    next: str | None


class ScanAnswer(Body):
    """What the scan found, and the files that it looked at."""

    verdict: str
    scanner: str
    looked_at: tuple[str, ...]
    not_looked_at: tuple[str, ...]
    findings: tuple[str, ...]
    members: tuple[Member, ...]


def router(catalog: Catalog, max_package_bytes: int) -> APIRouter:
    """All routes of the catalog."""
    routes = new_router(prefix="/v1")
    _use_cases(routes, catalog)
    _models(routes, catalog, max_package_bytes)
    _versions(routes, catalog)
    _evidence(routes, catalog)
    return routes


def _use_cases(routes: APIRouter, catalog: Catalog) -> None:
    @routes.post("/use-cases", status_code=201, tags=["use cases"])
    async def register(body: UseCaseBody, caller: Who, response: Response) -> UseCase:
        """Name something that the business wants decided, and who answers for it."""
        unit = acting_unit(caller, body.unit)
        allow(caller, "usecase.register", unit)
        wanted = validated(UseCase, body.model_dump() | {"unit": unit})
        use_case, is_new = await catalog.register_use_case(wanted)
        response.status_code = 201 if is_new else 200
        return use_case

    @routes.get("/use-cases", tags=["use cases"])
    async def many(caller: Who, limit: Limit = 100, cursor: Cursor = None) -> Page[UseCase]:
        """Use cases by name."""
        allow(caller, "catalog.read")
        found = await catalog.use_cases(_after(cursor), limit + 1)
        return page(found, limit, as_cursor(found[limit - 1].use_case) if len(found) > limit else None)

    @routes.get("/use-cases/{use_case}", tags=["use cases"])
    async def one(use_case: Model, caller: Who) -> UseCase:
        """One use case."""
        allow(caller, "catalog.read")
        return await catalog.use_case(use_case)


def _models(routes: APIRouter, catalog: Catalog, max_package_bytes: int) -> None:
    @routes.post("/models", status_code=201, tags=["models"], openapi_extra=_FORM)
    async def register(request: Request, caller: Who, response: Response) -> VersionAnswer:
        """Register a model: one model file, or a zip or tar.gz of a folder with `fairlead.yaml`."""
        allow(caller, "model.register")
        with catalog.intake.turn(caller.actor) as pace:
            made, is_new = await taken(request, caller, pace)
        response.status_code = 201 if is_new else 200
        response.headers["location"] = f"/v1/models/{made.model}/versions/{made.version}"
        return VersionAnswer.of(made)

    async def taken(request: Request, caller: Caller, pace: upload.Pace) -> tuple[ModelVersion, bool]:
        async with catalog.intake.folder() as work:
            form = await upload.receive(request, work / "upload", max_package_bytes, pace)
            unit = acting_unit(caller, form.fields.pop("unit", None))
            return await catalog.register(form.path, work, unit, form.fields)

    @routes.get("/models", tags=["models"])
    async def many(
        caller: Who,
        query: Annotated[Words | None, Query()] = None,
        tag: Annotated[Name | None, Query()] = None,
        state: Annotated[AnyState | None, Query()] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[ModelItem]:
        """Models whose name, description, tags or columns match, by name."""
        allow(caller, "catalog.read")
        found = await catalog.models(query or None, tag, state, _after(cursor), limit + 1)
        items = [ModelItem.of(each) for each in found]
        return page(items, limit, as_cursor(items[limit - 1].model) if len(items) > limit else None)

    @routes.get("/models/{model}", tags=["models"])
    async def one(model: Model, caller: Who, limit: Limit = 100, cursor: Cursor = None) -> ModelAnswer:
        """A model and its versions, the newest first."""
        allow(caller, "catalog.read")
        before = from_cursor(cursor, version_number)
        listed, found = await catalog.model(model, before[0] if before else None, limit + 1)
        shown = [VersionAnswer.of(each) for each in found[:limit]]
        leads_on = as_cursor(shown[-1].version) if len(found) > limit else None
        return ModelAnswer(**ModelItem.of(listed).model_dump(), versions=shown, next=leads_on)


_AT = "/models/{model}/versions/{version}"


def _versions(routes: APIRouter, catalog: Catalog) -> None:
    """A version, its bytes, its end."""

    @routes.get(_AT, tags=["versions"])
    async def one(model: Model, version: Number, caller: Who) -> VersionAnswer:
        """One version."""
        allow(caller, "catalog.read")
        return VersionAnswer.of(await catalog.version(model, version))

    @routes.get(f"{_AT}/artifact", tags=["versions"], response_class=StreamingResponse)
    async def artifact(model: Model, version: Number, caller: Who) -> StreamingResponse:
        """The package, byte for byte: its sha256 is the version's digest."""
        allow(caller, "catalog.read")
        made = await catalog.version(model, version)
        name, digest = f"{model}-{version}.zip", made.candidate.digest
        headers = {"content-disposition": f'attachment; filename="{name}"', "etag": f'"{digest}"'}
        return StreamingResponse(await catalog.package(made), media_type="application/zip", headers=headers)

    @routes.post(f"{_AT}/retire", tags=["versions"])
    async def retire(model: Model, version: Number, body: Retirement, caller: Who) -> VersionAnswer:
        """Take the version out of service for good."""
        allow(caller, "model.retire")
        return VersionAnswer.of(await catalog.retire(model, version, body.reason))


def _evidence(routes: APIRouter, catalog: Catalog) -> None:
    """What is known of a version: for people, for the scan, for lineage, for who runs it."""

    @routes.get(f"{_AT}/card", tags=["versions"], response_class=PlainTextResponse)
    async def model_card(model: Model, version: Number, caller: Who) -> PlainTextResponse:
        """The model card, in Markdown, from recorded facts."""
        allow(caller, "catalog.read")
        made = await catalog.version(model, version)
        text = card.markdown(made, await catalog.endpoints(model, version))
        return PlainTextResponse(text, media_type="text/markdown")

    @routes.get(f"{_AT}/scan", tags=["versions"])
    async def scan(model: Model, version: Number, caller: Who) -> ScanAnswer:
        """What the security scan found."""
        allow(caller, "catalog.read")
        candidate = (await catalog.version(model, version)).candidate
        return ScanAnswer(**candidate.scan.model_dump(), members=candidate.members)

    @routes.get(f"{_AT}/lineage", tags=["versions"])
    async def lineage(model: Model, version: Number, caller: Who) -> Lineage:
        """Where the version came from and where it went."""
        allow(caller, "catalog.read")
        return await catalog.lineage(model, version)

    @routes.get(f"{_AT}/environment", tags=["versions"])
    async def environment(model: Model, version: Number, caller: Who) -> dict[str, Any]:
        """What the version needs to run, as locked at registration."""
        allow(caller, "catalog.read")
        return (await catalog.version(model, version)).candidate.environment


def _after(cursor: str | None) -> str:
    values = from_cursor(cursor, name)
    return values[0] if values else ""


_TEXT = {"type": "string"}
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["package"],
                    "properties": {
                        "package": {"type": "string", "format": "binary"},
                        "columns": {**_TEXT, "description": "JSON, as in fairlead.yaml"},
                        "metrics": {**_TEXT, "description": "JSON"},
                        "segments": {**_TEXT, "description": "JSON list of columns, or names between commas"},
                        "tags": {**_TEXT, "description": "JSON list, or words between commas"},
                        **dict.fromkeys(("name", "unit", "description", "label", "prediction", "score"), _TEXT),
                    },
                }
            }
        },
    }
}
