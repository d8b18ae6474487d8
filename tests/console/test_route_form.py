"""A route of alerts as a form: what is typed, what the governor is asked for, and whose input a refusal is about."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.gateway import Answer
from services.console.pages import route_form

_names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
_seconds = st.integers(0, 604_800).map(float)
_channels = st.fixed_dictionaries({
    "kind": st.sampled_from(route_form.KINDS), "connection": _names, "path": st.sampled_from(["/a", "/a/b"]),
    "to": st.lists(st.sampled_from(["ops@bank.example", "duty@bank.example"]), max_size=2),
})  # fmt: skip
_steps = st.fixed_dictionaries({"after_s": _seconds, "channels": st.lists(_channels, min_size=1, max_size=3)})
_routes = st.fixed_dictionaries({
    "name": _names, "unit": _names, "group_s": st.integers(0, 3600).map(float),
    "match": st.fixed_dictionaries({
        **{name: st.lists(_names, max_size=3) for name in ("endpoints", "kinds", "use_cases")},
        "severities": st.lists(st.sampled_from(route_form.SEVERITIES), unique=True),
    }),
    "steps": st.lists(_steps, min_size=1, max_size=3),
})  # fmt: skip


def typed(draft: route_form.Draft) -> dict[str, list[str]]:
    """The form as a browser sends it."""
    fields = {name: [draft[name]] for name in ("name", "unit", "group_s")}
    fields |= {f"match.{name}": [said] for name, said in draft["match"].items() if name != "severities"}
    fields["match.severities"] = draft["match"]["severities"]
    for number, step in enumerate(draft["steps"]):
        fields[f"steps.{number}.after_s"] = [step["after_s"]]
        for place, channel in enumerate(step["channels"]):
            fields |= {f"steps.{number}.channels.{place}.{key}": [said] for key, said in channel.items()}
    return fields


@given(_routes)
def test_a_route_that_is_changed_in_nothing_stays_as_it_is(route: dict[str, Any]) -> None:
    draft = route_form.of_route(route)
    assert route_form.read(typed(draft)) == draft
    assert route_form.body(draft) == {name: said for name, said in route.items() if name != "name"}
    assert {*typed(draft)} == {*route_form.names(draft)}


def test_steps_and_channels_come_and_go_and_the_only_one_stays() -> None:
    draft = route_form.changed(route_form.empty("retail"), "add steps.0.channels")
    draft = route_form.changed(draft, "add steps")
    assert [len(step["channels"]) for step in draft["steps"]] == [2, 1]
    draft["steps"][0]["channels"][1]["connection"] = "ops"
    draft = route_form.changed(draft, "remove steps.0.channels.0")
    assert [way["connection"] for way in draft["steps"][0]["channels"]] == ["ops"]
    assert route_form.changed(draft, "remove steps.0.channels.0") == draft
    assert len(route_form.changed(draft, "remove steps.1")["steps"]) == 1
    for strange in ("add steps.7.channels", "remove steps.9", "remove", "add match", ""):
        assert route_form.changed(draft, strange) == draft
    for _ in range(30):
        draft = route_form.changed(route_form.changed(draft, "add steps"), "add steps.0.channels")
    assert (len(draft["steps"]), len(draft["steps"][0]["channels"])) == (10, 20)


@pytest.mark.parametrize(("typed", "asked"), [
    ("", 30.0), ("12.5", 12.5), ("1e3", 1000.0), ("-1", -1.0),
    *((text, text) for text in ("soon", "nan", "inf", "-Infinity", "1e999", "1_000", "٣", ".")),
])  # fmt: skip
def test_what_is_no_plain_number_goes_to_the_governor_as_it_is(typed: str, asked: float | str) -> None:
    draft = route_form.empty("retail")
    draft["group_s"], draft["steps"][0]["after_s"] = typed, ""
    said = route_form.body(draft)
    assert (said["group_s"], said["steps"][0]["after_s"]) == (asked, 0.0)


@pytest.mark.parametrize(("field", "name"), [
    ("steps.0.channels.0.connection", "steps.0.channels.0.connection"),
    ("steps.0.channels.0.to.1", "steps.0.channels.0.to"), ("match.endpoints.2", "match.endpoints"),
    ("steps.0.channels.01.to", ""), ("body", ""), ("", ""),
])  # fmt: skip
def test_a_refusal_finds_the_input_that_it_is_about(field: str, name: str) -> None:
    names = list(route_form.names(route_form.empty("retail")))
    answer = Answer({"field": field}, 422, f"{field}: there is no such thing")
    assert answer.refuses(names) == (name, "There is no such thing")


def test_what_was_taken_refuses_nothing() -> None:
    assert Answer({"field": "name"}).refuses(["name"])[0] == ""
