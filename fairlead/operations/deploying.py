"""Putting versions behind endpoints, and the approvals that it takes."""

import time

from contracts import Strategy

from ..answers import Approval, Deployment, Endpoint, Page
from ..errors import NotFound
from ..flows import Document, done, parse, part, read, send, settled
from ..wire import Flow, Pause, Request, operation

_SPREADS_S = 10.0
"""So long something new may need from the catalog to the deployer."""


class Deploying:
    """Putting versions behind endpoints, and the approvals that it takes."""

    @operation
    def deploy(
        self,
        endpoint: str,
        *,
        use_case: str,
        model: str,
        version: int,
        strategy: Strategy = "direct",
        weight: float | None = None,
        variant: str | None = None,
        streaming: bool = False,
        wait: float | None = None,
    ) -> Flow[Deployment]:
        """Ask for a version behind an endpoint. Gates run, then a second person decides.

        `strategy` says how it comes there: `direct` in place of what serves; beside it as `canary` or `ab` with a
        `weight` (its share of the requests), as an arm of a `bandit`, as a `shadow`, which gets copies of what was
        answered, or as the `fallback`, which answers where another version fails. `variant` names it there.

        With `wait` (seconds) it returns when the deployment serves, was rejected or failed, and raises
        `TimedOut` when that takes longer.

        >>> fl.deploy("credit", use_case="credit-limits", model="credit", version=2, wait=60)  # doctest: +SKIP
        """
        asked = {"endpoint": endpoint, "use_case": use_case, "model": model, "version": version}
        asked |= {"strategy": strategy, "streaming": streaming}
        asked |= _given(weight=weight, variant=variant)
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
    def promote(self, endpoint: str, *, variant: str | None = None) -> Flow[Endpoint]:
        """Make what stands beside the champion the champion; `variant` says which, where there are several."""
        return (yield from send(Endpoint, "POST", f"/v1/endpoints/{part(endpoint)}/promote", _given(variant=variant)))

    @operation
    def weigh(self, endpoint: str, weight: float, *, variant: str | None = None) -> Flow[Endpoint]:
        """Give a canary or a variant of an A/B test another share of the requests; entities keep to their version as
        far as the shares allow."""
        body = {"weight": weight, **_given(variant=variant)}
        return (yield from send(Endpoint, "POST", f"/v1/endpoints/{part(endpoint)}/weight", body))

    @operation
    def rollback(self, endpoint: str, *, variant: str | None = None) -> Flow[Endpoint]:
        """Take a running experiment away, or the `variant` that is named; where there is none, go back to the version
        that was granted and served before."""
        return (yield from send(Endpoint, "POST", f"/v1/endpoints/{part(endpoint)}/rollback", _given(variant=variant)))

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


def _given(**members: float | str | None) -> Document:
    return {name: value for name, value in members.items() if value is not None}


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
