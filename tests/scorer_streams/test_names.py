"""An endpoint may be called as anything is called in the house: nothing of it is taken for anything else."""

import pytest
from pydantic import TypeAdapter

from contracts import EVENTS, InferenceCompleted, InferenceRequested, Name
from services.kit.deadletters import topic_of
from services.scorer.explanations.forgetting import GROUP as EXPLANATIONS
from services.scorer.imports.work import GROUP as IMPORTS
from services.scorer.streams.work import group_of

GROUPS = (EXPLANATIONS, IMPORTS, "scorer", "recorder", "monitor")
PARTITIONS = range(64)


def transactions(group: str) -> set[str]:
    """The transactional ids of a group, as `TransactionalStream` makes them."""
    return {f"{group}.{partition}" for partition in PARTITIONS}


HOSTILE = sorted({
    "imports", "imports-inferences", "explanations", "explanations-erased", "erased", "erasing", "streams", "batches",
    "scorer", "logged", "dlq", "0", "all", *(part for group in GROUPS for part in group.split(".")),
    *(part for event in EVENTS for part in event.topic.name.split(".")),
})  # fmt: skip


@pytest.mark.parametrize("endpoint", HOSTILE)
def test_no_endpoint_s_group_topic_or_transaction_is_another_s(endpoint: str) -> None:
    assert TypeAdapter(Name).validate_python(endpoint) == endpoint, "it is a name that is taken"
    assert group_of(endpoint) not in GROUPS
    others = set().union(*map(transactions, GROUPS))
    assert transactions(group_of(endpoint)).isdisjoint(others)
    mine = {topic.of(endpoint) for topic in (InferenceRequested.topic, InferenceCompleted.topic)}
    fixed = {event.topic.name for event in EVENTS}
    assert (mine | set(map(topic_of, mine))).isdisjoint(fixed | set(map(topic_of, fixed)))
