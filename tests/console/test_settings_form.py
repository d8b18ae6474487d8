"""How an endpoint is watched, as a form: what is typed, what the monitor is asked for, whose input is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import GivenSettings, MonitorSettings
from services.console.gateway import Answer
from services.console.pages import settings_form as form
from services.console.pages import settings_trial as trial

_text = st.text("abc.1 ", min_size=1, max_size=8).map(str.strip).filter(bool)
_matrix = st.fixed_dictionaries({cell: st.floats(-1e9, 1e9).map(lambda x: round(x, 3)) for cell in form.CELLS})
_settings: dict[str, st.SearchStrategy[Any]] = {
    "window_s": st.floats(1, 86_400), "budget_rows": st.integers(1_000, 10**12), "tolerance": st.floats(1e-6, 10),
    "season_s": st.sampled_from([0.0, 86_400.0, 604_800.0]), "retrain_on_drift": st.booleans(),
    "favourable": _text, "expected_error": st.floats(0.001, 0.9), "value_matrix": _matrix,
    "kpis": st.dictionaries(_text, _text, min_size=1, max_size=3), "quality_alerts": st.booleans(),
    "rules": st.dictionaries(
        st.sampled_from(["limit", "age-1", "x"]), st.fixed_dictionaries({
            "must": _text, "tolerance": st.sampled_from([0.0, 0.01, 0.5]), "severity": st.sampled_from(form.SEVERITIES),
        }), min_size=1,
    ),
    "attributions": st.sampled_from(form.CHOICES["models"]), "silent_after_s": st.sampled_from([0.0, 60.5, 3600.0]),
    "detectors": st.sets(st.sampled_from(form.DETECTORS)).map(lambda some: [d for d in form.DETECTORS if d in some]),
}  # fmt: skip
_some = st.fixed_dictionaries({}, optional=_settings)


def fields(draft: form.Draft) -> dict[str, list[str]]:
    """The form as a browser sends it."""
    found: dict[str, list[str]] = {"follow": draft["follow"], "detectors": draft["detectors"]}
    for name, value in draft.items():
        if isinstance(value, str):
            found[name] = [value]
    found |= {f"value_matrix.{cell}": [said] for cell, said in draft["value_matrix"].items()}
    for within in form.LISTS:
        for place, row in enumerate(draft[within]):
            found |= {f"{within}.{place}.{key}": [said] for key, said in row.items()}
    return found


def held(some: dict[str, Any]) -> form.Draft:
    return form.of_settings(MonitorSettings.model_validate(some))


def test_the_form_has_every_setting_that_the_monitor_takes_and_no_other() -> None:
    assert {each.name for each in form.ALL} == {*GivenSettings.model_fields}
    assert {*form.DETECTORS} >= {"adwin", "hddm-w"} and form.CHOICES["models"] == ("exact", "any", "off")


@given(_some)
def test_what_is_changed_in_nothing_asks_for_nothing(some: dict[str, Any]) -> None:
    draft = held(some)
    assert form.read(fields(draft)) == draft
    assert form.changes(draft, form.read(fields(draft))) == {}


@given(_some, _some)
def test_the_monitor_is_asked_for_what_was_changed_as_it_was_typed(some: dict[str, Any], other: dict[str, Any]) -> None:
    before, after = held(some), held(some | other)
    asked = form.changes(before, form.read(fields(after)))
    assert {*asked} <= {*other}
    GivenSettings.model_validate(asked)
    made = MonitorSettings.model_validate(some | asked)
    assert held(made.model_dump()) == after


@given(_some, _some, _some)
def test_what_two_people_change_at_once_is_neither_lost_nor_overwritten(
    some: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    before, draft, now = held(some), held(some | mine), held(some | theirs)
    merged = form.merged(before, draft, now)
    for name, value in merged.items():
        assert value == (draft[name] if draft[name] != before[name] else now[name])
    assert form.merged({}, draft, now) == draft


@pytest.mark.parametrize(
    ("typed", "asked"),
    [({"budget_rows": "1e6"}, {"budget_rows": 1_000_000}), ({"budget_rows": "1.5"}, {"budget_rows": 1.5}),
     ({"tolerance": "much"}, {"tolerance": "much"}), ({"tolerance": ""}, {"tolerance": None}),
     ({"season_s": "0"}, {"season_s": 0.0}), ({"retrain_on_drift": "no"}, {"retrain_on_drift": False}),
     ({"favourable": "1"}, {"favourable": "1"}), ({"follow": ["window_s"]}, {"window_s": None}),
     ({"value_matrix.true_positive": "12"}, {"value_matrix": {"true_positive": 12.0}}),
     ({"kpis.0.name": "a", "kpis.0.expression": "label"}, {"kpis": {"a": "label"}}),
     ({"kpis.0.name": "", "kpis.0.expression": ""}, {"kpis": {}}),
     ({"rules.0.name": "x", "rules.0.must": "a > 1.0", "rules.0.tolerance": "much", "rules.0.severity": "critical"},
      {"rules": {"x": {"must": "a > 1.0", "tolerance": "much", "severity": "critical"}}}),
     ({"rules.0.name": "", "rules.0.must": "", "rules.0.tolerance": "0", "rules.0.severity": "warning"}, {"rules": {}}),
     ({"detectors": ["hddm-w", "adwin", "strange"]}, {"detectors": ["adwin", "hddm-w"]})],
)  # fmt: skip
def test_what_is_typed_is_asked_for_and_what_is_no_number_is_left_to_the_monitor(
    typed: dict[str, Any], asked: dict[str, Any]
) -> None:
    before = held({"budget_rows": 5_000})
    given = {name: said if isinstance(said, list) else [said] for name, said in typed.items()}
    assert form.changes(before, form.read(fields(before) | given)) == asked


def test_kpis_come_and_go_and_two_of_one_name_are_not_made_one() -> None:
    draft = form.changed(form.changed(held({}), "add kpis"), "add kpis")
    assert form.mistake(draft) == ("", "")
    draft["kpis"] = [{"name": "a", "expression": "label"}, {"name": "a", "expression": "score"}]
    assert form.mistake(draft)[0] == "kpis.1.name"
    assert form.changed(draft, "remove kpis.0")["kpis"] == [{"name": "a", "expression": "score"}]
    draft["kpis"][1]["name"] = ""
    assert form.mistake(draft) == ("kpis.1.name", "A KPI needs a name")
    for strange in ("remove kpis.9", "remove", "add", "add steps", ""):
        assert form.changed(draft, strange) == draft
    for _ in range(30):
        draft = form.changed(draft, "add kpis")
    assert len(draft["kpis"]) == 20


@pytest.mark.parametrize(("field", "name"), [
    ("kpis.a.b", "kpis.1.expression"), ("kpis.a.b.[key]", "kpis.1.expression"), ("kpis.a", "kpis.0.expression"),
    ("detectors.3", "detectors"), ("value_matrix.true_positive", "value_matrix.true_positive"), ("kpis", "kpis"),
    ("rules.x.must", "rules.0.must"), ("rules.x.tolerance", "rules.0.tolerance"), ("rules.x.[key]", "rules.0.name"),
    ("tolerance", "tolerance"), ("body", ""), ("payload_sample", ""),
])  # fmt: skip
def test_a_refusal_finds_the_input_that_it_is_about(field: str, name: str) -> None:
    draft = held({"kpis": {"a": "label", "a.b": "score"}, "rules": {"x": {"must": "a > 1.0"}}})
    wrong, reason = Answer({"field": field}, 422, f"{field}: it is not so").refuses(form.names(draft))
    assert (form.place_of(draft, wrong), reason) == (name, "It is not so")


@pytest.mark.parametrize(
    ("name", "some", "said"),
    [("budget_rows", {}, "1\u202f000\u202f000 rows"), ("tolerance", {}, "0.1"), ("season_s", {"season_s": 0.0}, "none"),
     ("silent_after_s", {}, "by its history"), ("favourable", {"favourable": 0.0}, "0"),
     ("value_matrix", {"value_matrix": {"false_negative": -3.5}}, "false negative -3.5"), ("kpis", {}, "none"),
     ("rules", {"rules": {"x": {"must": "a > 1.0", "tolerance": 0.01}}}, "x: a > 1.0 (warning; 0.01 may break it)"),
     ("value_matrix", {"value_matrix": {}}, "0"), ("detectors", {"detectors": ["adwin", "ddm"]}, "adwin, ddm")],
)  # fmt: skip
def test_a_setting_reads_as_people_say_it(name: str, some: dict[str, Any], said: str) -> None:
    setting = next(each for each in form.ALL if each.name == name)
    assert form.told(setting, getattr(MonitorSettings.model_validate(some), name)) == said


DRY = {"from": "2026-03-02T00:00:00Z", "to": "2026-03-02T01:00:00Z", "version": 2}


def finding(minute: int, version: int = 2) -> dict[str, Any]:
    at = f"2026-03-02T{minute // 60:02}:{minute % 60:02}:00Z"
    event = {"window": {"to": at}, "since": at, "version": version, "features": []}
    return {"found_at": at, "event": event}


def test_of_alarms_that_were_raised_those_of_the_tried_windows_are_shown_in_their_order() -> None:
    told = {"alarms": [finding(70), finding(50), finding(40, version=1), finding(10)], "notes": []}
    assert [alarm["at"][14:16] for alarm in trial.raised(DRY, told)] == ["10", "50"]
    assert (trial.place(DRY, "2026-03-02T00:15:00Z"), trial.place(DRY, "2026-03-03T00:00:00Z")) == (25.0, 100.0)
    assert not trial.is_cut(DRY, told)
    assert trial.is_cut(DRY, {"alarms": [finding(50)] * 50})
    assert not trial.is_cut(DRY, {"alarms": [finding(50)] * 49 + [finding(0)]})
