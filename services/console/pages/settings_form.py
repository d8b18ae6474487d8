"""How an endpoint is watched, as a form: inputs are called as the monitor calls its settings, so that a refusal finds
its own."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, get_args

from contracts import Explaining, MonitorSettings, ValueMatrix
from contracts.monitoring import Detector

from . import typed
from .typed import Fields

Draft = dict[str, Any]
"""As somebody typed it, by setting: a text, of `value_matrix` a text by cell, of `kpis` rows of `name` and
`expression`, of `detectors` their names; and as `follow` the settings that are left to the deployments again."""
Kind = Literal["number", "whole", "text", "yes or no", "models", "matrix", "kpis", "detectors"]

CHOICES: Mapping[str, tuple[str, ...]] = {"yes or no": ("yes", "no"), "models": get_args(Explaining)}
CELLS = tuple(ValueMatrix.model_fields)
DETECTORS: tuple[str, ...] = get_args(Detector)
_MOST_KPIS = 20


@dataclass(frozen=True)
class Setting:
    """One of them: what people call it, and what it means."""

    name: str
    label: str
    kind: Kind
    means: str
    unit: str = ""
    none: str = ""
    """What it means that it is not set, or 0."""


GROUPS: tuple[tuple[str, tuple[Setting, ...]], ...] = (
    ("Alarms of drift", (
        Setting("budget_rows", "Rows between false alarms", "whole", "Over all that watches the endpoint, however long",
                "rows"),
        Setting("tolerance", "Tolerance", "number",
                "The smallest effect that matters: standard deviations of a number, PSI of a class"),
        Setting("season_s", "Season, seconds", "number", "A day is 86400, a week 604800. 0: none, and none is learned",
                "s", "none"),
        Setting("window_s", "Window, seconds", "number", "A few hundred rows at the usual rate", "s"),
        Setting("retrain_on_drift", "Retrain on drift", "yes or no", "Ask for a retraining with the alarm"),
    )),
    ("Whether rows come, and can be used", (
        Setting("quality_alerts", "Alerts of data quality", "yes or no", "Rows that stay away, or cannot be used"),
        Setting("quality_tolerance", "Share of unusable values", "number", "Beyond the usual one; 0.05 is five of 100"),
        Setting("silent_after_s", "Silent after, seconds", "number", "0: as long as its history does not explain", "s",
                "by its history"),
    )),
    ("What decisions rest on", (
        Setting("attributions", "Which models", "models",
                "exact: where the structure tells; any: all others are asked, too; off: none"),
        Setting("attribution_share", "Share of decisions", "number", "That may be in the sample, up to 1"),
        Setting("attribution_tolerance", "Change of influence", "number", "The smallest that matters, of all columns'"),
    )),
    ("Outcomes", (
        Setting("outcome_window_s", "Window of outcomes, seconds", "number", "Labels are fewer than decisions", "s"),
        Setting("favourable", "Favourable class", "text", "That people want to get; empty: the second of two",
                none="the second of two"),
        Setting("expected_error", "Accepted share of errors", "number", "Empty: as many as there were",
                none="as before"),
        Setting("value_matrix", "Value of a decision", "matrix", "By what turned out; empty: none", none="none"),
        Setting("kpis", "KPIs", "kpis", "By name, in CEL over a decision and its outcome; the mean is told",
                none="none"),
    )),
    ("River's detectors", (
        Setting("detectors", "Detectors beside the monitor's own", "detectors",
                "They share the budget. ADWIN, Page-Hinkley and KSWIN see columns, the others labels", none="none"),
    )),
)  # fmt: skip
ALL: tuple[Setting, ...] = tuple(setting for _, settings in GROUPS for setting in settings)
TRIED = ("budget_rows", "tolerance", "season_s", "quality_alerts", "quality_tolerance", "expected_error")
"""What a dry run over recorded windows and labels takes."""


def of_settings(settings: MonitorSettings) -> Draft:
    """What holds, as it is typed."""
    return {each.name: _typed(each, getattr(settings, each.name)) for each in ALL} | {"follow": []}


def _typed(setting: Setting, value: Any) -> Any:
    match setting.kind:
        case "yes or no":
            return "yes" if value else "no"
        case "matrix":
            return {cell: typed.shown(getattr(value, cell)) if value else "" for cell in CELLS}
        case "kpis":
            return [{"name": name, "expression": expression} for name, expression in value.items()]
        case "detectors":
            return list(value)
        case _:
            return "" if value is None else value if isinstance(value, str) else typed.shown(value)


def read(fields: Fields) -> Draft:
    """What a form holds."""
    return {each.name: _read(each, fields) for each in ALL} | {
        "follow": [name for name in fields.get("follow", ()) if name in {each.name for each in ALL}]
    }


def _read(setting: Setting, fields: Fields) -> Any:
    name = setting.name
    match setting.kind:
        case "matrix":
            return {cell: typed.said(fields, f"{name}.{cell}") for cell in CELLS}
        case "kpis":
            return [
                {key: typed.said(fields, f"{name}.{place}.{key}") for key in ("name", "expression")}
                for place in typed.counted(fields, name, "name", _MOST_KPIS)
            ]
        case "detectors":
            return [each for each in DETECTORS if each in fields.get(name, ())]
        case _:
            return typed.said(fields, name)


def changed(draft: Draft, press: str) -> Draft:
    """With one KPI more or less, as the button says that was pressed: `add kpis`, `remove kpis.0`."""
    made = deepcopy(draft)
    if press == "add kpis" and len(made["kpis"]) < _MOST_KPIS:
        made["kpis"].append({"name": "", "expression": ""})
    made["kpis"] = [kpi for place, kpi in enumerate(made["kpis"]) if press != f"remove kpis.{place}"]
    return made


def changes(before: Draft, draft: Draft) -> dict[str, Any]:
    """What the monitor is asked for: what differs from what held before, and None for what is left to the deployments;
    what is no number is left to it to refuse."""
    differing = {each.name: _said(each, draft[each.name]) for each in ALL if draft[each.name] != before[each.name]}
    return differing | dict.fromkeys(draft["follow"])


def _said(setting: Setting, value: Any) -> Any:
    match setting.kind:
        case "number":
            return typed.number(value) if value else None
        case "whole":
            return typed.whole(value) if value else None
        case "yes or no":
            return value == "yes"
        case "matrix":
            return {c: typed.number(said) for c, said in value.items() if said} or None
        case "kpis":
            return {kpi["name"]: kpi["expression"] for kpi in value if any(kpi.values())}
        case _:
            return value if setting.kind == "detectors" else value or None


def merged(before: Mapping[str, Any], draft: Draft, now: Draft) -> Draft:
    """What holds now, and on top of it what somebody changed of what held before."""
    return {name: draft[name] if draft[name] != before.get(name) else value for name, value in now.items()}


def mistake(draft: Draft) -> tuple[str, str]:
    """The input that no service can be asked about, and why: of two KPIs of one name, one would be lost."""
    taken: set[str] = set()
    for place, kpi in enumerate(draft["kpis"]):
        if not any(kpi.values()):
            continue
        if not kpi["name"] or kpi["name"] in taken:
            return f"kpis.{place}.name", "There is one of this name above" if kpi["name"] else "A KPI needs a name"
        taken.add(kpi["name"])
    return "", ""


def names(draft: Draft) -> Iterator[str]:
    """Every input of the form, KPIs as the monitor calls them."""
    for each in ALL:
        yield each.name
    yield from (f"value_matrix.{cell}" for cell in CELLS)
    yield from (f"kpis.{kpi['name']}" for kpi in draft["kpis"] if kpi["name"])


def place_of(draft: Draft, wrong: str) -> str:
    """An input as the form calls it, by what the monitor calls it."""
    at = (n for n, kpi in enumerate(draft["kpis"]) if kpi["name"] and wrong == f"kpis.{kpi['name']}")
    return next((f"kpis.{number}.expression" for number in at), wrong)


def told(setting: Setting, value: Any) -> str:
    """A value as people read it."""
    if value in (None, (), {}) or (setting.kind == "number" and setting.none and not value):
        return setting.none
    match setting.kind:
        case "yes or no":
            return "yes" if value else "no"
        case "matrix":
            worth = {cell: getattr(value, cell) for cell in CELLS}
            return (
                ", ".join(f"{cell.replace('_', ' ')} {typed.shown(each)}" for cell, each in worth.items() if each)
                or "0"
            )
        case "kpis":
            return ", ".join(f"{name}: {expression}" for name, expression in value.items())
        case "detectors":
            return ", ".join(value)
        case _:
            return value if isinstance(value, str) else f"{value:,.15g} {setting.unit}".replace(",", "\u202f").strip()
