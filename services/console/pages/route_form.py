"""A route of alerts as a form: inputs are called as the governor calls its fields, so that a refusal finds its own."""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from . import typed
from .typed import Fields

Draft = dict[str, Any]
"""As somebody typed it, in texts: `name`, `unit`, `group_s`, `match`, and `steps` of `after_s` and `channels`."""

KINDS = ("webhook", "alertmanager", "email")
SEVERITIES = ("info", "warning", "critical")
_LISTS = ("endpoints", "kinds", "use_cases")
_MOST = {"steps": 10, "channels": 20}
_PLACE = re.compile(r"^steps\.(\d+)(?:\.channels\.(\d+))?$")


def empty(unit: str) -> Draft:
    """A new route: one webhook that is told at once of all alerts."""
    match = dict.fromkeys(_LISTS, "") | {"severities": []}
    return {"name": "", "unit": unit, "group_s": "30", "match": match, "steps": [_step("0")]}


def _step(after_s: str) -> Draft:
    return {"after_s": after_s, "channels": [_channel()]}


def _channel() -> Draft:
    return {"kind": KINDS[0], "connection": "", "path": "", "to": ""}


def of_route(route: Mapping[str, Any]) -> Draft:
    """A route as the governor shows it; one that it cannot read is begun anew."""
    draft = empty(route["unit"]) | {"name": route["name"]}
    if route.get("problem"):
        return draft
    match = route["match"]
    draft["match"] = {name: _joined(match.get(name, ())) for name in _LISTS} | {"severities": match["severities"]}
    draft["group_s"] = f"{route['group_s']:g}"
    draft["steps"] = [
        {
            "after_s": f"{step['after_s']:g}",
            "channels": [
                {"kind": way["kind"], "connection": way["connection"], "path": way["path"], "to": _joined(way["to"])}
                for way in step["channels"]
            ],
        }
        for step in route["steps"]
    ]
    return draft


def read(fields: Fields) -> Draft:
    """What a form holds."""

    def said(name: str) -> str:
        return typed.said(fields, name)

    match = {name: said(f"match.{name}") for name in _LISTS}
    steps = [
        {
            "after_s": said(f"steps.{number}.after_s"),
            "channels": [
                {key: said(f"steps.{number}.channels.{place}.{key}") for key in _channel()}
                for place in typed.counted(fields, f"steps.{number}.channels", "kind", _MOST["channels"])
            ],
        }
        for number in typed.counted(fields, "steps", "after_s", _MOST["steps"])
    ]
    return {
        "name": said("name"), "unit": said("unit"), "group_s": said("group_s"), "steps": steps,
        "match": match | {"severities": list(fields.get("match.severities", ()))},
    }  # fmt: skip


def body(draft: Draft) -> dict[str, Any]:
    """What the governor is asked to keep; what is no number is left to it to refuse."""
    return {
        **({"unit": draft["unit"]} if draft["unit"] else {}),
        "match": {name: _parts(draft["match"][name]) for name in _LISTS} | {"severities": draft["match"]["severities"]},
        "group_s": _number(draft["group_s"], 30.0),
        "steps": [
            {"after_s": _number(step["after_s"], 0.0), "channels": [_way(way) for way in step["channels"]]}
            for step in draft["steps"]
        ],
    }


def _way(channel: Draft) -> dict[str, Any]:
    path = {"path": channel["path"]} if channel["path"] else {}
    return {"kind": channel["kind"], "connection": channel["connection"], "to": _parts(channel["to"]), **path}


def changed(draft: Draft, press: str) -> Draft:
    """With one step or channel more or less, as the button says that was pressed: `add steps`,
    `remove steps.0.channels.1`. The only one stays."""
    verb, _, place = press.partition(" ")
    made = deepcopy(draft)
    if verb == "add" and place == "steps":
        made["steps"] = [*made["steps"], _step("900")][: _MOST["steps"]]
        return made
    found = _PLACE.match(place.removesuffix(".channels") if verb == "add" else place)
    if found is None or int(found[1]) >= len(made["steps"]):
        return made
    step = made["steps"][int(found[1])]
    if verb == "add":
        step["channels"] = [*step["channels"], _channel()][: _MOST["channels"]]
    elif found[2] is None:
        made["steps"] = _without(made["steps"], int(found[1]))
    else:
        step["channels"] = _without(step["channels"], int(found[2]))
    return made


def _without(items: list[Draft], place: int) -> list[Draft]:
    return [item for number, item in enumerate(items) if number != place] or items


def names(draft: Draft) -> Iterator[str]:
    """Every input of the form."""
    yield from ("name", "unit", "group_s", *(f"match.{name}" for name in (*_LISTS, "severities")))
    for number, step in enumerate(draft["steps"]):
        yield f"steps.{number}.after_s"
        for place, channel in enumerate(step["channels"]):
            yield from (f"steps.{number}.channels.{place}.{key}" for key in channel)


def _joined(items: Sequence[str]) -> str:
    return ", ".join(items)


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"[,\s]+", text) if part]


def _number(text: str, otherwise: float) -> float | str:
    return typed.number(text) if text else otherwise
