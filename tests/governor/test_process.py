"""The templates, their engine and their policies."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from SpiffWorkflow.bpmn.parser.BpmnParser import BpmnParser
from SpiffWorkflow.bpmn.workflow import BpmnWorkflow

from contracts import Scan, Training
from services.governor.engine import policies, process
from services.governor.engine.process import BadTemplate, Instance
from services.kit import cel
from tests.governor.builders import deployment, facts_of, model, use_case

ROOM = Path(policies.__file__).parent.parent
TEMPLATES = process.load(ROOM / "templates")
POLICIES = policies.load(ROOM / "policies")


def kept(instance: Instance) -> Instance:
    """The instance as it comes back from the database."""
    return Instance.restored(json.loads(json.dumps(instance.state())))


def judged(passed: bool) -> Instance:
    instance = TEMPLATES["standard"].start({})
    while gates := [work for work in instance.work if work.kind == "gate"]:
        instance.complete(gates[0], {gates[0].id: [{"name": gates[0].id, "passed": passed}]})
        instance = kept(instance)
    return instance


def only_work(instance: Instance) -> str:
    (work,) = instance.work
    return work.id


def diagram(body: str) -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
    <bpmn:definitions xmlns:bpmn="http://www.omg.org/spec/BPMN/20100524/MODEL" targetNamespace="urn:t" id="d">
      <bpmn:process id="p" isExecutable="true">{body}</bpmn:process>
    </bpmn:definitions>""".encode()


def script(text: str) -> bytes:
    return diagram(f"""
        <bpmn:startEvent id="s"><bpmn:outgoing>a</bpmn:outgoing></bpmn:startEvent>
        <bpmn:sequenceFlow id="a" sourceRef="s" targetRef="t"/>
        <bpmn:scriptTask id="t"><bpmn:incoming>a</bpmn:incoming><bpmn:outgoing>b</bpmn:outgoing>
          <bpmn:script>{text}</bpmn:script></bpmn:scriptTask>
        <bpmn:sequenceFlow id="b" sourceRef="t" targetRef="e"/>
        <bpmn:endEvent id="e"><bpmn:incoming>b</bpmn:incoming></bpmn:endEvent>""")


PYTHON = 'leak = __import__("os").getpid()'


def test_the_framework_would_run_python_from_a_diagram(tmp_path: Path) -> None:
    """The trap itself: should this ever fail, the guard below has lost its reason."""
    parser = BpmnParser()
    path = tmp_path / "p.bpmn"
    path.write_bytes(script(PYTHON))
    parser.add_bpmn_file(str(path))
    workflow = BpmnWorkflow(parser.get_spec("p"))
    workflow.do_engine_steps()
    assert workflow.data["leak"] > 0


@pytest.mark.parametrize("text", [PYTHON, '__import__("os").getpid()', "[x for x in (1,)]", "lambda: 1"])
def test_a_diagram_cannot_run_python(text: str) -> None:
    with pytest.raises(cel.CelError):
        process.parse("p", script(text)).start({})


def test_a_script_is_a_map_in_cel() -> None:
    instance = process.parse("p", script('{"total": a + b, "text": "x"}')).start({"a": 1, "b": 2})
    assert instance.data["total"] == 3
    with pytest.raises(cel.CelError, match="must be a map"):
        process.parse("p", script("a + b")).start({"a": 1, "b": 2})


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, [1, {"deep": 2**64}]])
def test_integers_beyond_int64_are_refused_before_they_wrap(value: Any) -> None:
    with pytest.raises(cel.CelError, match="beyond 64 bits"):
        cel.evaluate("a", {"a": value})
    assert cel.evaluate("a", {"a": 2**63 - 1}) == 2**63 - 1


@pytest.mark.parametrize("value", [np.float64(1), np.int64(1), np.bool_(True), [np.float32(1)], object(), {1: 2}])
def test_what_is_not_plain_json_is_refused(value: Any) -> None:
    with pytest.raises(cel.CelError):
        cel.evaluate("a", {"a": value})


def test_an_error_of_an_expression_never_counts_as_true() -> None:
    for expression in ("a.missing", "1 / 0 == 1", "a", '"yes"'):
        with pytest.raises(cel.CelError):
            cel.holds(expression, {"a": {}})


@pytest.mark.parametrize("xml", [b"", b"<x/>", b"not xml", diagram("<bpmn:nonsense/>")])
def test_what_is_no_diagram_is_refused(xml: bytes) -> None:
    with pytest.raises(BadTemplate):
        process.parse("p", xml)


def test_a_diagram_reads_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    xml = script('{"x": "&leak;"}').replace(b"?>", f'?><!DOCTYPE d [<!ENTITY leak SYSTEM "{secret}">]>'.encode(), 1)
    with pytest.raises((BadTemplate, cel.CelError)):
        assert "hidden" not in str(process.parse("p", xml).start({}).data)


def test_every_template_is_drawn() -> None:
    for template in TEMPLATES.values():
        elements = set(re.findall(r'<bpmn:\w+ id="(\w+)"', template.xml))
        drawn = set(re.findall(r'bpmnElement="(\w+)"', template.xml))
        undrawn = {e for e in elements - drawn if not re.search(r"_(message|timer|definitions)$|^message_", e)}
        assert undrawn == set()
        assert drawn <= elements


def test_every_policy_is_checked_by_a_gate_of_the_template() -> None:
    assert POLICIES.gates == TEMPLATES["standard"].gates


def test_a_request_whose_gates_pass_waits_for_a_person_and_then_for_its_rollout() -> None:
    instance = judged(passed=True)
    assert only_work(instance) == "approve"
    assert instance.work[0].kind == "person"
    instance.complete(instance.work[0], {"decision": "grant"})
    instance = kept(instance)
    assert only_work(instance) == "grant"
    instance.complete(instance.work[0], {"grant_lasts": "PT24H"})
    instance = kept(instance)
    assert instance.awaits == {"deployment.changed", "approval.revoked", "deployment.settled"}
    assert instance.due is not None
    instance.deliver("deployment.changed", {"revision": 1})
    instance = kept(instance)
    assert instance.awaits == {"approval.revoked", "deployment.settled"}
    assert instance.due is None
    instance.deliver("deployment.settled", {"state": "serving"})
    assert instance.outcome == "in_business"


def granted() -> Instance:
    instance = judged(passed=True)
    instance.complete(instance.work[0], {"decision": "grant"})
    instance.complete(instance.work[0], {"grant_lasts": "PT24H"})
    return kept(instance)


@pytest.mark.parametrize("begun", [True, False], ids=["in flight", "grant refused"])
def test_a_rollout_that_will_never_serve_ends_as_failed(begun: bool) -> None:
    instance = granted()
    if begun:
        instance.deliver("deployment.changed", {"revision": 1})
        instance = kept(instance)
    instance.deliver("deployment.settled", {"state": "failed", "reason": "the grant does not hold"})
    assert instance.outcome == "failed"


def test_a_grant_revoked_while_its_rollout_is_in_flight_ends_as_withdrawn() -> None:
    instance = granted()
    instance.deliver("deployment.changed", {"revision": 1})
    instance.deliver("approval.revoked", {})
    assert instance.outcome == "withdrawn"


def test_a_failed_gate_and_a_person_lead_to_the_same_rejection() -> None:
    refused = judged(passed=False)
    assert only_work(refused) == "reject"
    by_person = judged(passed=True)
    by_person.complete(by_person.work[0], {"decision": "reject"})
    for instance in (refused, by_person):
        instance.complete(instance.work[0], {})
        assert kept(instance).outcome == "rejected"


def test_a_model_retired_while_it_waits_is_not_approved() -> None:
    instance = judged(passed=True)
    assert instance.awaits == {"model.retired"}
    instance.deliver("model.retired", {"reason": "flaw"})
    assert only_work(instance) == "reject"
    assert instance.data["model_retired"] == {"reason": "flaw"}


def test_the_engine_never_drops_a_message_that_nothing_waits_for() -> None:
    instance = judged(passed=True)
    with pytest.raises(LookupError):
        instance.deliver("deployment.changed", {})
    assert only_work(instance) == "approve"


@pytest.mark.parametrize(("outcome", "end"), [("champion_kept", "champion_kept"), ("failed", "failed")])
def test_a_retraining_ends_with_its_outcome(outcome: str, end: str) -> None:
    instance = TEMPLATES["retraining"].start({})
    instance.complete(instance.work[0], {})
    instance = kept(instance)
    instance.deliver("retraining.completed", {"outcome": outcome})
    assert instance.outcome == end


def test_a_retraining_that_won_lasts_until_its_candidate_is_put_up() -> None:
    instance = TEMPLATES["retraining"].start({})
    instance.complete(instance.work[0], {})
    instance.deliver("retraining.completed", {"outcome": "candidate_won"})
    instance = kept(instance)
    assert not instance.ended
    assert instance.awaits == {"deployment.requested", "candidate.refused"}
    instance.deliver("deployment.requested", {})
    assert instance.outcome == "candidate_proposed"


def test_a_timer_fires_when_it_is_due() -> None:
    xml = TEMPLATES["retraining"].xml.replace('"P1D"', '"PT0S"').encode()
    instance = process.parse("quick", xml).start({})
    instance.complete(instance.work[0], {})
    instance = kept(instance)
    instance.wake()
    assert instance.outcome == "gave_up"


def verdicts(**changes: Any) -> dict[str, bool]:
    use = use_case(**changes.pop("use", {}))
    asked = deployment(**changes.pop("asked", {}))
    facts = facts_of(use, model(**changes.pop("model", {})), asked, **changes)
    return {gate.name: gate.passed for name in sorted(POLICIES.gates) for gate in POLICIES.judge(name, facts)}


def failed(**changes: Any) -> set[str]:
    return {name for name, passed in verdicts(**changes).items() if not passed}


def test_a_sound_version_passes_every_gate_of_its_tier() -> None:
    assert failed() == set()
    assert failed(use={"risk_tier": 4}) == set()
    assert len(verdicts(use={"risk_tier": 4})) > len(verdicts()) > len(verdicts(use={"risk_tier": 1}))


@pytest.mark.parametrize("verdict", ["suspicious", "malicious", "incomplete"])
def test_anything_but_a_clean_scan_is_refused(verdict: str) -> None:
    assert failed(model={"scan": Scan(verdict=verdict, scanner="t")}) == {"security-scan-clean"}  # pyright: ignore


def test_a_version_whose_scan_told_less_is_judged_as_before() -> None:
    facts = facts_of(use_case(), model(), deployment())
    facts["model"]["scan"] = {"verdict": "clean", "scanner": "t", "findings": []}
    (scan,) = [gate for gate in POLICIES.judge("security", facts) if gate.name == "security-scan-clean"]
    assert scan.passed and scan.facts["not_looked_at"] == "not told"


def test_each_gate_refuses_what_it_is_for() -> None:
    assert failed(retired=True) == {"not-retired"}
    assert failed(asked={"digest": "sha256:" + "c" * 64}) == {"same-bytes"}
    assert failed(asked={"unit": "wealth"}) == {"same-business-unit"}
    assert failed(model={"baseline_digest": None}) == {"baseline-present"}
    assert failed(model={"training": Training(metrics={"accuracy": 0.4})}) == {"evaluation-sufficient"}
    assert failed(model={"training": Training()}) == {"evaluation-present"}
    assert failed(use={"risk_tier": 3, "protected": ()}) == {"protected-declared"}
    assert failed(use={"risk_tier": 3, "protected": ("AGEP",)}) == {"protected-declared"}
    assert failed(use={"risk_tier": 4}, model={"training": Training(metrics={"accuracy": 0.65})}) == {
        "evaluation-regulated"
    }


def test_a_harmless_use_case_needs_no_baseline_and_no_metrics() -> None:
    assert failed(use={"risk_tier": 1}, model={"baseline_digest": None, "training": Training()}) == set()


def test_a_rule_that_cannot_be_evaluated_is_not_fulfilled() -> None:
    file = policies.PolicyFile(
        gate="g", title="G", policies=(policies.Policy(name="odd", says="…", rule="model.nothing == 1"),)
    )
    (gate,) = policies.Policies((file,), "v").judge("g", {"model": {}, "use_case": {}, "deployment": {}})
    assert not gate.passed
    assert "nothing" in str(gate.facts["error"])


@pytest.mark.parametrize("rule", ["model.x ==", "modle.x == 1", "__import__('os')"])
def test_a_wrong_policy_is_refused_when_it_is_read(tmp_path: Path, rule: str) -> None:
    (tmp_path / "odd.yaml").write_text(
        f"gate: g\ntitle: G\npolicies:\n  - name: a\n    says: b\n    rule: {json.dumps(rule)}"
    )
    with pytest.raises(ValueError, match=r"odd\.yaml"):
        policies.load(tmp_path)


def test_another_bound_is_another_policy_version(tmp_path: Path) -> None:
    text = (ROOM / "policies" / "quality.yaml").read_text()
    (tmp_path / "quality.yaml").write_text(text)
    before = policies.load(tmp_path).version
    (tmp_path / "quality.yaml").write_text(text.replace("accuracy: 0.6", "accuracy: 0.61", 1))
    assert policies.load(tmp_path).version != before
