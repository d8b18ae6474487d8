"""The graph of a version: its data and its parent, who allowed it, where it serves, what was made of it."""

from collections.abc import Iterator, Sequence
from typing import Literal

from contracts import Value

from .domain import Granted, ModelVersion, Retraining, Serving

NodeKind = Literal["data", "version", "retraining", "approval", "endpoint"]


class Node(Value):
    """A thing in the graph; its id is its kind and name."""

    id: str
    kind: NodeKind
    label: str


class Edge(Value):
    """Something led to something."""

    source: str
    kind: Literal["trained", "parent_of", "learned_from", "produced", "allowed", "serves"]
    target: str


class Lineage(Value):
    """Nodes and edges around one version."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def of(
        cls, made: ModelVersion, serving: Sequence[Serving], grants: Sequence[Granted], retrained: Sequence[Retraining]
    ) -> "Lineage":
        """The graph of what is known of one version."""
        parts = [*_origin(made, retrained), *_use(made, serving, grants), *_children(made, retrained)]
        nodes = {node.id: node for pair in parts for node in pair[:2]} or {
            _version(made.model, made.version).id: _version(made.model, made.version)
        }
        edges = tuple(Edge(source=source.id, kind=kind, target=target.id) for source, target, kind in parts)
        return cls(nodes=tuple(nodes.values()), edges=edges)


_Part = tuple[Node, Node, Literal["trained", "parent_of", "learned_from", "produced", "allowed", "serves"]]


def _origin(made: ModelVersion, retrained: Sequence[Retraining]) -> Iterator[_Part]:
    me, training = _version(made.model, made.version), made.candidate.training
    if training.retraining_id is None:
        if training.data_digest:
            yield _data(training.data_digest), me, "trained"
        return
    retraining = _retraining(training.retraining_id)
    if training.data_digest:
        yield _data(training.data_digest), retraining, "learned_from"
    if training.parent_version:
        yield _version(made.model, training.parent_version), retraining, "parent_of"
    yield retraining, me, "produced"


def _use(made: ModelVersion, serving: Sequence[Serving], grants: Sequence[Granted]) -> Iterator[_Part]:
    me = _version(made.model, made.version)
    for grant in grants:
        if grant.version == made.version:
            label = f"{grant.granted_by} for {grant.endpoint}, {grant.granted_at:%Y-%m-%d %H:%M}"
            yield Node(id=f"approval:{grant.approval_id}", kind="approval", label=label), me, "allowed"
    for place in serving:
        if place.version == made.version:
            label = f"{place.endpoint} ({place.use_case})"
            yield me, Node(id=f"endpoint:{place.endpoint}", kind="endpoint", label=label), "serves"


def _children(made: ModelVersion, retrained: Sequence[Retraining]) -> Iterator[_Part]:
    for each in retrained:
        if each.parent_version == made.version:
            retraining = _retraining(each.retraining_id, each.outcome)
            yield _version(made.model, made.version), retraining, "parent_of"
            if each.snapshot_digest:
                yield _data(each.snapshot_digest), retraining, "learned_from"
            if each.version:
                yield retraining, _version(made.model, each.version), "produced"


def _version(model: str, version: int) -> Node:
    return Node(id=f"version:{model}/{version}", kind="version", label=f"{model} version {version}")


def _data(digest: str) -> Node:
    return Node(id=f"data:{digest}", kind="data", label=digest[:19])


def _retraining(retraining_id: str, outcome: str = "candidate_won") -> Node:
    return Node(id=f"retraining:{retraining_id}", kind="retraining", label=outcome.replace("_", " "))
