"""Everything that can be asked of the platform, each written once as the requests that it takes."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from contracts import RetrainingRequested

from . import packing
from .answers import (
    Approval,
    Batch,
    DeadLetter,
    Decision,
    Deployment,
    Drift,
    Endpoint,
    Model,
    ModelVersion,
    Page,
    Platform,
    Retraining,
    Scores,
    TopicState,
    UseCase,
    Verification,
)
from .errors import NotFound
from .flows import Document, done, parse, part, read, send, settled, text
from .rows import Signature, have_names, tensors
from .scoring import catalog_columns, model_path, scores, signature_of
from .wire import Flow, Pause, Request, operation

_SIGNATURE_AGE_S = 30.0
_SPREADS_S = 10.0
_UPLOAD_TIMEOUT_S = 600.0
_OUTCOMES = 10_000
"""As many as the recorder takes at once; more are sent in parts."""


class Operations:
    """The operations of both clients."""

    def __init__(self) -> None:
        self._signatures: dict[tuple[str, bool], tuple[float, Signature]] = {}

    # --- the catalog ---------------------------------------------------------------------------

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
        """Register a model: a file (`.onnx`, `.skops`), a package, or a folder with `fairlead.yaml`.

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

    # --- deployments and approvals -------------------------------------------------------------

    @operation
    def deploy(
        self,
        endpoint: str,
        *,
        use_case: str,
        model: str,
        version: int,
        strategy: Literal["direct"] = "direct",
        streaming: bool = False,
        wait: float | None = None,
    ) -> Flow[Deployment]:
        """Ask for a version behind an endpoint. Gates run, then a second person decides.

        With `wait` (seconds) it returns when the deployment serves, was rejected or failed, and raises
        `TimedOut` when that takes longer.

        >>> fl.deploy("credit", use_case="credit-limits", model="credit", version=2, wait=60)  # doctest: +SKIP
        """
        asked = {"endpoint": endpoint, "use_case": use_case, "model": model, "version": version}
        asked |= {"strategy": strategy, "streaming": streaming}
        deployment = yield from _ask_when_known(asked)
        if wait is None:
            return deployment
        return (yield from settled(Deployment, f"/v1/deployments/{deployment.id}", wait))

    @operation
    def deployment(self, id: str, *, wait: float | None = None) -> Flow[Deployment]:
        """How far a deployment came; with `wait`, when it is settled."""
        return (yield from settled(Deployment, f"/v1/deployments/{part(id)}", wait))

    @operation
    def deployments(
        self, *, endpoint: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Flow[Page[Deployment]]:
        """What was asked to run, newest first."""
        return (yield from read(Page[Deployment], "/v1/deployments", endpoint=endpoint, limit=limit, cursor=cursor))

    @operation
    def endpoints(self, *, limit: int | None = None, cursor: str | None = None) -> Flow[Page[Endpoint]]:
        """The endpoints and what each shall serve."""
        return (yield from read(Page[Endpoint], "/v1/endpoints", limit=limit, cursor=cursor))

    @operation
    def endpoint(self, endpoint: str) -> Flow[Endpoint]:
        """One endpoint: its variants, replicas and settings."""
        return (yield from read(Endpoint, f"/v1/endpoints/{part(endpoint)}"))

    @operation
    def rollback(self, endpoint: str) -> Flow[Endpoint]:
        """Go back to the version that was granted and served before."""
        return (yield from send(Endpoint, "POST", f"/v1/endpoints/{part(endpoint)}/rollback", {}))

    @operation
    def remove(self, endpoint: str) -> Flow[Endpoint]:
        """Take an endpoint down; its decisions and its history stay."""
        return parse(Endpoint, (yield from done(Request("DELETE", f"/v1/endpoints/{part(endpoint)}"))))

    @operation
    def approvals(
        self, state: str | None = "pending", *, limit: int | None = None, cursor: str | None = None
    ) -> Flow[Page[Approval]]:
        """What waits for a decision (or, by `state`, what was decided)."""
        return (yield from read(Page[Approval], "/v1/approvals", state=state, limit=limit, cursor=cursor))

    @operation
    def approve(self, approval_id: str, reason: str) -> Flow[Document]:
        """Grant an approval. Who asked for the deployment cannot: raises `Forbidden`."""
        return (yield from decide(approval_id, "grant", reason))

    @operation
    def reject(self, approval_id: str, reason: str) -> Flow[Document]:
        """Refuse an approval, saying why."""
        return (yield from decide(approval_id, "reject", reason))

    # --- decisions -----------------------------------------------------------------------------

    @operation
    def score(
        self,
        endpoint: str,
        rows: Any,
        *,
        version: int | None = None,
        entity: str | None = None,
        correlation_id: str | None = None,
        request_id: str | None = None,
    ) -> Flow[Scores]:
        """Score rows: dicts, a numpy array [rows, columns] or a data frame.

        `entity` names what is decided about (a customer, a claim): decisions can be found by it.

        >>> fl.score("credit", [{"AGEP": 44, "SEX": 2}], entity="customer-17").predictions  # doctest: +SKIP
        [1]
        """
        rows = list(rows) if isinstance(rows, Iterator) else rows
        signature = yield from self._signature(endpoint, version, have_names(rows))
        body: Document = {"inputs": tensors(rows, signature)}
        parameters = {"entity": entity, "correlation_id": correlation_id}
        if given := {name: value for name, value in parameters.items() if value is not None}:
            body["parameters"] = given
        if request_id is not None:
            body["id"] = request_id
        answer = yield Request("POST", model_path(endpoint, version) + "/infer", body=body)
        return scores(answer)

    def _signature(self, endpoint: str, version: int | None, named: bool) -> Flow[Signature]:
        """What the endpoint takes, remembered for a while: a version's schema does not change, a champion may."""
        key = (model_path(endpoint, version), named)
        known = self._signatures.get(key)
        if known and time.monotonic() - known[0] < _SIGNATURE_AGE_S:
            return known[1]
        told = signature_of((yield Request("GET", key[0])))
        if named and not told.columns and len(told.inputs) == 1 and told.inputs[0].width:
            told = replace(told, columns=(yield from catalog_columns(endpoint, version)))
        self._signatures[key] = (time.monotonic(), told)
        return told

    @operation
    def batch(self, endpoint: str, path: str | Path, *, wait: float | None = None, **fields: Any) -> Flow[Batch]:
        """Score a file of rows (Parquet). With `wait` (seconds) it returns when the file is scored."""
        with packing.opened(path) as (name, file):
            form = packing.form({"endpoint": endpoint, **fields})
            files = {"file": (name, file)}
            answer = yield from done(
                Request("POST", "/v1/batches", form=form, files=files, timeout_s=_UPLOAD_TIMEOUT_S)
            )
        batch = parse(Batch, answer)
        return batch if wait is None else (yield from settled(Batch, f"/v1/batches/{batch.id}", wait))

    @operation
    def batch_state(self, id: str, *, wait: float | None = None) -> Flow[Batch]:
        """How far a batch came."""
        return (yield from settled(Batch, f"/v1/batches/{part(id)}", wait))

    @operation
    def outcomes(self, outcomes: Iterable[Mapping[str, Any]]) -> Flow[Document]:
        """Report what became true: `{"inference_id", "row", "label", "value"}` each, however late.

        >>> fl.outcomes([{"inference_id": scores.inference_id, "row": 0, "label": 1}])   # doctest: +SKIP
        """
        told, sums = list(outcomes), Counter[str]()
        # What is said again has no second effect, so a part that fails is mended by saying all of it again.
        for start in range(0, len(told) or 1, _OUTCOMES):
            sums.update(
                (yield from send(Document, "POST", "/v1/outcomes", {"outcomes": told[start : start + _OUTCOMES]}))
            )
        return dict(sums)

    @operation
    def decision(self, inference_id: str) -> Flow[Decision]:
        """A decision by its id: request, response, version, and what followed."""
        return (yield from read(Decision, f"/v1/decisions/{part(inference_id)}"))

    @operation
    def decisions(self, **filters: Any) -> Flow[Page[Decision]]:
        """Decisions by `use_case`, `application`, `entity`, `endpoint`, `start` and `end` (times), `limit`, `cursor`."""
        renamed = {{"start": "from", "end": "to"}.get(name, name): text(value) for name, value in filters.items()}
        return (yield from read(Page[Decision], "/v1/decisions", **renamed))

    # --- watching and making right again -------------------------------------------------------

    @operation
    def monitor(self, endpoint: str) -> Flow[Document]:
        """How an endpoint is watched, and its present state."""
        return (yield from read(Document, f"/v1/monitors/{part(endpoint)}"))

    @operation
    def configure_monitor(self, endpoint: str, **settings: Any) -> Flow[Document]:
        """Change how an endpoint is watched: `window_s`, `budget_rows`, `tolerance`, `retrain_on_drift`."""
        return (yield from send(Document, "PUT", f"/v1/monitors/{part(endpoint)}", settings))

    @operation
    def drift(self, endpoint: str) -> Flow[Drift]:
        """How far an endpoint is from its baseline, with the evidence."""
        return (yield from read(Drift, f"/v1/monitors/{part(endpoint)}/drift"))

    @operation
    def windows(self, endpoint: str, *, limit: int | None = None, cursor: str | None = None) -> Flow[Page[Document]]:
        """The closed windows of an endpoint, newest first."""
        path = f"/v1/monitors/{part(endpoint)}/windows"
        return (yield from read(Page[Document], path, limit=limit, cursor=cursor))

    @operation
    def retrain(
        self, endpoint: str, reason: str, *, since: datetime | str | None = None, wait: float | None = None
    ) -> Flow[Retraining]:
        """Ask for the model behind an endpoint to be trained anew on its recorded rows (those `since` a time).

        With `wait` (seconds) it returns when the candidate was compared with the champion.
        """
        body = {"endpoint": endpoint, "reason": reason}
        asked = yield from send(
            RetrainingRequested, "POST", "/v1/retrainings", body | ({"since": text(since)} if since else {})
        )
        requested = Retraining(id=str(asked.retraining_id), state="requested", model=asked.model)
        path = f"/v1/retrainings/{asked.retraining_id}"
        return requested if wait is None else (yield from settled(Retraining, path, wait, requested))

    @operation
    def retraining(self, id: str, *, wait: float | None = None) -> Flow[Retraining]:
        """How far a retraining came."""
        return (yield from settled(Retraining, f"/v1/retrainings/{part(id)}", wait))

    @operation
    def retrainings(
        self,
        *,
        model: str | None = None,
        endpoint: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Flow[Page[Retraining]]:
        """Retrainings, newest first, of a model or of what an endpoint served."""
        filters = {"model": model, "endpoint": endpoint}
        return (yield from read(Page[Retraining], "/v1/retrainings", **filters, limit=limit, cursor=cursor))

    # --- topics, audit, reports ----------------------------------------------------------------

    @operation
    def topics(self) -> Flow[Page[TopicState]]:
        """The topics: rate, size, lag of each consumer group, dead letters."""
        return (yield from read(Page[TopicState], "/v1/topics"))

    @operation
    def dead_letters(
        self, topic: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Flow[Page[DeadLetter]]:
        """Records that could not be handled, newest first, with the reason."""
        return (yield from read(Page[DeadLetter], "/v1/dead-letters", topic=topic, limit=limit, cursor=cursor))

    @operation
    def replay(self, topic: str, records: Iterable[tuple[int, int]] | None = None) -> Flow[Document]:
        """Give dead letters of a topic to their service again: all, or those at (partition, offset)."""
        body: Document = {"topic": topic}
        if records is not None:
            body["records"] = [{"partition": partition, "offset": offset} for partition, offset in records]
        return (yield from send(Document, "POST", "/v1/dead-letters/replay", body))

    @operation
    def audit(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        since: datetime | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Flow[Page[Document]]:
        """What was done, by whom, when: the ledger's rows, newest first."""
        filters = {"subject": subject, "actor": actor, "since": text(since), "limit": limit, "cursor": cursor}
        return (yield from read(Page[Document], "/v1/audit", **filters))

    @operation
    def verify_audit(self) -> Flow[Verification]:
        """Let the platform verify its ledger. `fairlead audit verify` does it without trusting the platform."""
        return (yield from send(Verification, "POST", "/v1/audit/verify", {}))

    @operation
    def export_audit(self) -> Flow[tuple[bytes, bytes]]:
        """The whole ledger and its checkpoints as JSON Lines, for `fairlead.audit` to verify offline."""
        # Checkpoints first: one that is made meanwhile would seal records that were not exported.
        checkpoints = yield Request("GET", "/v1/audit/checkpoints")
        records = yield Request("GET", "/v1/audit/export", timeout_s=_UPLOAD_TIMEOUT_S)
        return records.content, checkpoints.content

    @operation
    def alerts(self, state: str | None = "open", *, limit: int | None = None) -> Flow[Page[Document]]:
        """What a person should look at: `open`, `acknowledged` or `resolved`; None for all."""
        return (yield from read(Page[Document], "/v1/alerts", state=state, limit=limit))

    @operation
    def report(self, kind: str, **filters: Any) -> Flow[Document]:
        """A report by its kind: `history` with `model="credit"` tells all that ever happened to a model."""
        return (yield from read(Document, f"/v1/reports/{part(kind)}", **filters))

    @operation
    def kpis(self) -> Flow[Document]:
        """The figures of the business: models, endpoints, time from ready to in business, drifts, promotions."""
        return (yield from read(Document, "/v1/kpis"))

    @operation
    def status(self) -> Flow[Platform]:
        """Who is where, and who is ready."""
        return (yield from read(Platform, "/v1/platform"))


def decide(approval_id: str, decision: str, reason: str) -> Flow[Document]:
    """A decision about an approval, as both of its operations send it."""
    body = {"decision": decision, "reason": reason}
    return (yield from send(Document, "POST", f"/v1/approvals/{part(approval_id)}/decision", body))


def _ask_when_known(asked: Document) -> Flow[Deployment]:
    """Ask for a deployment. What the catalog registered a moment ago may not have reached the deployer yet."""
    deadline, request = time.monotonic() + _SPREADS_S, Request("POST", "/v1/deployments", body=asked)
    while True:
        try:
            return parse(Deployment, (yield from done(request)))
        except NotFound:
            if time.monotonic() > deadline:
                raise
            # Where the catalog does not know it either, that refusal is the answer.
            yield Request("GET", f"/v1/models/{part(asked['model'])}/versions/{asked['version']}")
            yield Request("GET", f"/v1/use-cases/{part(asked['use_case'])}")
            yield Pause(0.2)
