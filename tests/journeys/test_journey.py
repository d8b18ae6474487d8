"""The journey of a model, told in the sentences of the demo, against real Kafka and PostgreSQL."""

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from examples.demo import story as told
from examples.demo.cast import Cast
from examples.demo.story import Story
from services.kit.testing import eventually

from . import metrics
from .topics import read_topic

pytestmark = pytest.mark.timeout(600)

_DEPLOYED = {
    "deployment.requested",
    "approval.requested",
    "approval.granted",
    "deployment.changed",
    "deployment.settled",
}
_IMPROVED = {"drift.detected", "retraining.requested", "retraining.completed", "model.registered", *_DEPLOYED}
_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


async def logged(home: Path, endpoint: str) -> list[dict[str, Any]]:
    """What `inference.logged` holds of an endpoint."""
    records = [orjson.loads(record.value) for record in await read_topic(home, "inference.logged")]
    return [record for record in records if record["endpoint"] == endpoint]


async def stories_of(home: Path, endpoint: str) -> list[set[str]]:
    """The types of all events that share their correlation id with a deployment of an endpoint, in the order asked."""
    told: dict[bytes, set[str]] = defaultdict(set)
    asked: list[bytes] = []
    for topic in sorted(_IMPROVED):
        for record in await read_topic(home, topic):
            headers = dict(record.headers)
            assert _TRACEPARENT.fullmatch(headers["traceparent"]), (topic, headers)
            told[headers["ce_correlationid"]].add(topic)
            if topic == "deployment.requested" and orjson.loads(record.value)["endpoint"] == endpoint:
                asked.append(headers["ce_correlationid"])
    return [told[story] for story in asked]


async def test_a_model_goes_from_a_file_to_business_and_is_made_right_again(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "ASKED_BY_REST", 400)
    monkeypatch.setattr(told, "PREDICTED_BY_STREAM", 500)
    monkeypatch.setattr(told, "DRIFTING", 6_000)
    cast = Cast.of(house)
    story = Story(cast)
    try:
        await story.register()
        assert story.seen.version == 1

        await story.deploy()
        assert "engineer" in story.seen.refused

        await story.deploy_sklearn()

        await story.score()
        assert story.seen.rest.failed == []
        assert story.seen.rest.accuracy > 0.75
        assert story.seen.streamed.requests == 500
        assert story.seen.batch["state"] == "done"
        assert story.seen.batch["rows_done"] == told.PREDICTED_BY_BATCH

        await story.look_up()
        assert story.seen.decision["inference_id"] == story.seen.rest.last_id
        assert story.seen.decision["version"] == 1
        why = story.seen.explanation
        assert (why["method"], why["scale"], len(why["contributions"])) == ("trees", "log-odds", 16)
        assert why["counterfactual_decides"] != why["decided"]
        assert not {"SEX", "RAC1P"} & {step["column"] for step in why["counterfactual"]}, "protected columns stay"

        await story.drift()
        assert "AGEP" in {feature["name"] for feature in story.seen.drift["features"]}

        await story.retrain()
        assert story.seen.retraining["state"] == "candidate_won", story.seen.retraining["reason"]

        await story.promote()
        assert story.seen.promoted == 2
        assert story.seen.trickle.failed == []
        assert set(story.seen.trickle.by_version) == {"1", "2"}
        assert story.seen.after.accuracy > story.seen.drifted.accuracy

        await story.prove()
        assert story.seen.audit["ok"] is True

        seen = story.seen
        answered = sum(t.requests for t in (seen.rest, seen.drifted, seen.trickle, seen.after))

        async def all_logged() -> list[dict[str, Any]]:
            """The reply does not wait for Kafka: the log follows a moment later."""
            found = await logged(house, cast.endpoint)
            modes = Counter(record["mode"] for record in found)
            assert modes["rest"] >= answered, modes
            assert modes["stream"] >= 500, modes
            return found

        everything = await eventually(all_logged, within=30, every=0.5)
        modes = Counter(record["mode"] for record in everything)
        assert (modes["rest"], modes["stream"]) == (answered, 500)
        assert len({record["inference_id"] for record in everything}) == len(everything)

        async def whole_stories() -> bool:
            deployed, improved = await stories_of(house, cast.endpoint)
            assert deployed >= _DEPLOYED
            assert improved >= _IMPROVED
            return True

        assert await eventually(whole_stories, within=30, every=0.5)
        missing = metrics.asked() - await metrics.shown(cast.places)
        assert not missing, "rules and dashboard ask for what no service shows"
    finally:
        await cast.close()
