"""What the business wants and which models exist."""

from pathlib import Path
from typing import Any

from .. import packing
from ..answers import Model, ModelVersion, Page, UseCase
from ..flows import Document, done, parse, part, read, send
from ..wire import Flow, Request, operation

_UPLOAD_TIMEOUT_S = 600.0


class Catalog:
    """What the business wants and which models exist."""

    @operation
    def use_cases(self, *, limit: int | None = None, cursor: str | None = None) -> Flow[Page[UseCase]]:
        """The use cases that the token may see."""
        return (yield from read(Page[UseCase], "/v1/use-cases", limit=limit, cursor=cursor))

    @operation
    def register_use_case(self, use_case: str, **fields: Any) -> Flow[UseCase]:
        """Name something that the business wants decided, and who answers for it.

        >>> fl.register_use_case("credit-limits", title="Credit limits", owner="Risk", unit="retail",
        ...                      risk_tier=3, purpose="…", protected=["SEX"])     # doctest: +SKIP
        """
        return (yield from send(UseCase, "POST", "/v1/use-cases", {"use_case": use_case, **fields}))

    @operation
    def register(self, path: str | Path, name: str | None = None, **fields: Any) -> Flow[ModelVersion]:
        """Register a model: a file (ONNX, skops, XGBoost, LightGBM), a package, an MLflow model's folder, or a folder
        with `fairlead.yaml`.

        Returns the new version. The same bytes again give the version that is there.

        >>> fl.register("model.onnx", name="credit", unit="retail", prediction="label")  # doctest: +SKIP
        """
        with packing.opened(path) as package:
            form = packing.form({"name": name, **fields})
            upload = Request("POST", "/v1/models", form=form, files={"package": package}, timeout_s=_UPLOAD_TIMEOUT_S)
            answer = yield from done(upload)
        return parse(ModelVersion, answer)

    @operation
    def models(
        self,
        query: str | None = None,
        *,
        tag: str | None = None,
        state: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Flow[Page[Model]]:
        """The models whose name, tags or columns match."""
        return (
            yield from read(Page[Model], "/v1/models", query=query, tag=tag, state=state, limit=limit, cursor=cursor)
        )

    @operation
    def show(self, model: str, version: int | None = None) -> Flow[Document]:
        """All that the catalog knows of a model, or of one version of it."""
        path = f"/v1/models/{part(model)}"
        return (yield from read(Document, path if version is None else f"{path}/versions/{version}"))

    @operation
    def lineage(self, model: str, version: int) -> Flow[Document]:
        """Where a version came from and where it went: data, retrainings, approvals, deployments."""
        return (yield from read(Document, f"/v1/models/{part(model)}/versions/{version}/lineage"))

    @operation
    def card(self, model: str, version: int) -> Flow[str]:
        """The model card of a version, as text."""
        answer = yield Request("GET", f"/v1/models/{part(model)}/versions/{version}/card")
        return answer.text

    @operation
    def retire(self, model: str, version: int, reason: str) -> Flow[Document]:
        """Take a version out of service for good."""
        path = f"/v1/models/{part(model)}/versions/{version}/retire"
        return (yield from send(Document, "POST", path, {"reason": reason}))
