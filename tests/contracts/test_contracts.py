"""The published language: schemas, golden messages, and what counts as a change that breaks a reader."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import contracts
from contracts import EVENTS, HEARS, SAYS, SERVICES, DriftDetected, Event, ModelRegistered
from contracts.check import compatible, grown, path_of, problem, write
from services.kit.asyncapi import document
from services.kit.cloudevents import envelope, major_of

EXAMPLES = Path(contracts.__file__).parent / "examples"
every_event = pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.type())


def golden(event: type[Event]) -> dict[str, Any]:
    return json.loads((EXAMPLES / f"{event.type()}.json").read_text())


@every_event
def test_a_golden_message_is_read_and_written_back_unchanged(event: type[Event]) -> None:
    data = golden(event)["data"]
    assert json.loads(event.from_json(json.dumps(data).encode()).to_json()) == data


@every_event
def test_a_golden_message_fits_the_published_schema(event: type[Event]) -> None:
    Draft202012Validator(event.json_schema()).validate(golden(event)["data"])


@every_event
def test_a_golden_message_is_a_cloudevent_of_its_topic(event: type[Event]) -> None:
    about = envelope([(name, value.encode()) for name, value in golden(event)["headers"].items()])
    assert about.type == event.type()
    assert major_of(about.dataschema) == event.major
    assert about.subject == event.from_json(json.dumps(golden(event)["data"]).encode()).key


@every_event
def test_a_reader_ignores_a_field_that_it_does_not_know(event: type[Event]) -> None:
    data = golden(event)["data"] | {"from_a_later_version": 1}
    assert event.from_json(json.dumps(data).encode())


@every_event
def test_a_published_schema_refuses_a_field_that_nobody_declared(event: type[Event]) -> None:
    data = golden(event)["data"] | {"a_typo": 1}
    assert not Draft202012Validator(event.json_schema()).is_valid(data)


@every_event
def test_the_published_schema_is_the_code(event: type[Event]) -> None:
    assert problem(event) is None


def changed(**change: Any) -> dict[str, Any]:
    schema = copy.deepcopy(DriftDetected.json_schema())
    schema["properties"].update(change.get("add", {}))
    schema["required"] += change.get("require", [])
    for name in change.get("remove", []):
        del schema["properties"][name]
        schema["required"].remove(name)
    return schema


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({"add": {"severity": {"type": "string", "default": "high"}}}, True),
        ({"add": {"severity": {"type": "string"}}, "require": ["severity"]}, False),
        ({"remove": ["statistic"]}, False),
        ({"add": {"statistic": {"type": "string"}}}, False),
        ({"add": {"budget_rows": {"type": "number"}}}, True),
    ],
)
def test_an_incompatible_change_is_told_from_a_compatible_one(change: dict[str, Any], fits: bool) -> None:
    assert compatible(DriftDetected.json_schema(), changed(**change)) is fits


def test_a_new_value_of_an_enumeration_is_told_for_a_reader_of_before_would_refuse_it() -> None:
    old = DriftDetected.json_schema()
    new = copy.deepcopy(old)
    assert not grown(old, new)
    new["$defs"]["PerformanceEvidence"]["properties"]["metric"]["enum"].append("regret")
    assert compatible(old, new) and grown(old, new) == {"performance.metric": {"regret"}}
    new["$defs"]["PerformanceEvidence"]["properties"]["metric"] = {"type": "string"}
    assert compatible(old, new) and not grown(old, new), "a text says that there may be more"
    old = ModelRegistered.json_schema()
    new = copy.deepcopy(old)
    new["properties"]["format"]["enum"].append("abacus")
    assert not grown(old, new), "who cannot open it must refuse it"


def test_what_cannot_be_read_by_readers_of_before_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contracts.check.SCHEMAS", tmp_path)
    published = DriftDetected.json_schema()
    published["$defs"]["PerformanceEvidence"]["properties"]["metric"]["enum"].remove("error rate")
    path_of(DriftDetected).write_text(json.dumps(published))
    assert "performance.metric: error rate" in (problem(DriftDetected) or "")
    with pytest.raises(SystemExit, match=r"make the member text"):
        write(DriftDetected)


def test_a_unit_and_a_measure_of_a_later_release_are_shown_as_they_are() -> None:
    data = golden(DriftDetected)["data"]
    data["features"][0] |= {"unit": "nats", "measure": "tail", "effect": 0.5}
    data["features"][0].pop("before", None)
    read = DriftDetected.from_json(json.dumps(data).encode())
    assert read.features[0].told == "tail +0.5 nats" and json.loads(read.to_json()) == data


def test_every_topic_has_one_speaker_who_declares_it() -> None:
    for event in EVENTS:
        speakers = [service for service in SERVICES if event in SAYS[service]]
        expected = 0 if event.topic.open else len(SERVICES) if event.topic.speaker == "every" else 1
        assert len(speakers) == expected, event.type()


def test_no_two_topics_share_kafkas_metric_name() -> None:
    names = [event.topic.name.replace("_", ".") for event in EVENTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("service", SERVICES)
def test_asyncapi_names_every_message_of_a_service(service: contracts.Service) -> None:
    described = document(service, "1")
    assert described["asyncapi"] == "3.0.0"
    assert set(described["channels"]) == {e.type() for e in (*SAYS[service], *HEARS[service])}
    for operation in described["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in described["channels"]
