"""Scoring by request and by file, what was decided, and what followed."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import packing
from ..answers import Batch, Decision, Erasure, Explanation, Page, Scores
from ..flows import Document, done, parse, part, read, send, settled, text
from ..rows import Signature, have_names, tensors
from ..scoring import catalog_columns, model_path, scores, signature_of
from ..wire import Flow, Request, operation

_SIGNATURE_AGE_S = 30.0
_UPLOAD_TIMEOUT_S = 600.0
_EXPLAIN_TIMEOUT_S = 120.0
_OUTCOMES = 10_000
"""As many as the recorder takes at once; more are sent in parts."""


class Deciding:
    """Scoring by request and by file, what was decided, and what followed."""

    def __init__(self) -> None:
        super().__init__()
        self._signatures: dict[tuple[str, bool], tuple[float, Signature]] = {}

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
    def batch(
        self, endpoint: str, path: str | Path, *, version: int | None = None, wait: float | None = None, **fields: Any
    ) -> Flow[Batch]:
        """Score a file of rows: Parquet, CSV, JSON Lines or Arrow. With `wait` (seconds) it returns when it is scored.

        `version`: one that the endpoint holds; left out, its champion.
        """
        with packing.opened(path) as (name, file):
            form = packing.form({"endpoint": endpoint, "version": version, **fields})
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
    def decision(self, inference_id: str, *, row: int = 0) -> Flow[Decision]:
        """A decision by its id: request, response, version, and what followed. Of one with many rows, as a chunk of a
        batch is, a thousand from `row` on."""
        return (yield from read(Decision, f"/v1/decisions/{part(inference_id)}?row={row}"))

    @operation
    def explain(
        self, inference_id: str, *, row: int = 0, immutable: Iterable[str] = (), budget_s: float | None = None,
        decision: float | str | None = None,
    ) -> Flow[Explanation]:  # fmt: skip
        """What each column contributed to a decision, and what would have turned it; the answer is recorded.

        A counterfactual leaves protected columns as they are, and those in `immutable`. `decision` asks about another
        one of the model's: what speaks for it, and what would have led to it. `budget_s` (5, at most 30) bounds what is
        asked of the open model.

        >>> fl.explain(scores.inference_id).contributions[0]["column"]  # doctest: +SKIP
        'AGEP'
        """
        body: Document = {"inference_id": inference_id, "row": row, "immutable": list(immutable)}
        if budget_s is not None:
            body["budget_s"] = budget_s
        if decision is not None:
            body["decision"] = decision
        request = Request("POST", "/v1/explanations", body=body, timeout_s=_EXPLAIN_TIMEOUT_S)
        return parse(Explanation, (yield from done(request)))

    @operation
    def decisions(self, **filters: Any) -> Flow[Page[Decision]]:
        """Decisions, newest first, by `use_case`, `application`, `entity`, `endpoint`, `model`, `version`, `variant`,
        `mode`, times `start` and `end`, `outcome` ("known", "unknown"), `label`; `limit`, `cursor`."""
        renamed = {{"start": "from", "end": "to"}.get(name, name): text(value) for name, value in filters.items()}
        return (yield from read(Page[Decision], "/v1/decisions", **renamed))

    @operation
    def erase(self, entity: str, reason: str, *, use_case: str | None = None, unit: str | None = None) -> Flow[Erasure]:
        """Forget what was decided about an entity until now; the reason is kept for good and may not name it."""
        body: Document = {"entity": entity, "reason": reason}
        body |= {name: value for name, value in (("use_case", use_case), ("unit", unit)) if value is not None}
        return (yield from send(Erasure, "POST", "/v1/erasures", body))

    @operation
    def erasure(self, id: str, *, wait: float | None = None) -> Flow[Erasure]:
        """How far an erasure came; with `wait` (seconds) it returns when it is done."""
        return (yield from settled(Erasure, f"/v1/erasures/{part(id)}", wait))
