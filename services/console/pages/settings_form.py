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
"""As somebody typed it, by setting: a text, of `value_matrix` a text by cell, of `kpis` and `rules` rows of texts, of
`detectors` their names; and as `follow` the settings that are left to the deployments again."""
Kind = Literal["number", "whole", "text", "yes or no", "models", "matrix", "kpis", "rules", "detectors"]

CHOICES: Mapping[str, tuple[str, ...]] = {"yes or no": ("yes", "no"), "models": get_args(Explaining)}
CELLS = tuple(ValueMatrix.model_fields)
DETECTORS: tuple[str, ...] = get_args(Detector)
SEVERITIES = ("warning", "critical")
LISTS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "kpis": (20, {"name": "", "expression": ""}),
    "rules": (50, {"name": "", "must": "", "tolerance": "0", "severity": "warning"}),
}
"""Settings with rows: how many at most, and an empty one."""
_ONE = {"kpis": "A KPI", "rules": "A rule"}


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
    ("Business rules", (
        Setting("rules", "Business rules", "rules", "In CEL over the model's columns, prediction and score: what must "
                "be true of every decision, and the share that may break it", none="none"),
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
        case "rules":
            return [
                {"name": name, "must": rule.must, "tolerance": typed.shown(rule.tolerance), "severity": rule.severity}
                for name, rule in value.items()
            ]
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
        case "kpis" | "rules":
            most, empty = LISTS[name]
            return [
                {key: typed.said(fields, f"{name}.{place}.{key}") for key in empty}
                for place in typed.counted(fields, name, "name", most)
            ]
        case "detectors":
            return [each for each in DETECTORS if each in fields.get(name, ())]
        case _:
            return typed.said(fields, name)


def changed(draft: Draft, press: str) -> Draft:
    """With one row more or less, as the button says that was pressed: `add kpis`, `remove rules.0`."""
    made = deepcopy(draft)
    for within, (most, empty) in LISTS.items():
        if press == f"add {within}" and len(made[within]) < most:
            made[within].append(dict(empty))
        made[within] = [row for place, row in enumerate(made[within]) if press != f"remove {within}.{place}"]
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
        case "rules":
            return {rule["name"]: _rule(rule) for rule in value if _is_typed("rules", rule)}
        case _:
            return value if setting.kind == "detectors" else value or None


def _rule(rule: Mapping[str, str]) -> dict[str, Any]:
    return {"must": rule["must"], "tolerance": typed.number(rule["tolerance"] or "0"), "severity": rule["severity"]}


def _is_typed(within: str, row: Mapping[str, str]) -> bool:
    """Whether somebody typed anything into it."""
    return any(value and value != LISTS[within][1][key] for key, value in row.items())


def merged(before: Mapping[str, Any], draft: Draft, now: Draft) -> Draft:
    """What holds now, and on top of it what somebody changed of what held before."""
    return {name: draft[name] if draft[name] != before.get(name) else value for name, value in now.items()}


def mistake(draft: Draft) -> tuple[str, str]:
    """The input that no service can be asked about, and why: of two KPIs or rules of one name, one would be lost."""
    for within in LISTS:
        taken: set[str] = set()
        for place, row in enumerate(draft[within]):
            if not _is_typed(within, row):
                continue
            if not row["name"] or row["name"] in taken:
                reason = "There is one of this name above" if row["name"] else f"{_ONE[within]} needs a name"
                return f"{within}.{place}.name", reason
            taken.add(row["name"])
    return "", ""


def names(draft: Draft) -> Iterator[str]:
    """Every input of the form, KPIs and rules as the monitor calls them."""
    for each in ALL:
        yield each.name
    yield from (f"value_matrix.{cell}" for cell in CELLS)
    for within, member, row in _rows(draft):
        yield _called(within, row["name"], member)


def _rows(draft: Draft) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    for within, (_, empty) in LISTS.items():
        for row in draft[within]:
            yield from ((within, member, row) for member in empty if row["name"])


def _called(within: str, name: str, member: str) -> str:
    """A KPI is its expression; a rule has members, and what is wrong with its name is said of the rule."""
    if within == "rules" and member != "name":
        return f"{within}.{name}.{member}"
    return f"{within}.{name}"


def place_of(draft: Draft, wrong: str) -> str:
    """An input as the form calls it, by what the monitor calls it."""
    for within, (_, empty) in LISTS.items():
        for place, row in enumerate(draft[within]):
            for member in reversed([*empty]):
                if row["name"] and wrong == _called(within, row["name"], member):
                    return f"{within}.{place}.{member}"
    return wrong


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
        case "rules":
            return ", ".join(
                f"{name}: {rule.must} ({rule.severity}; {typed.shown(rule.tolerance)} may break it)"
                for name, rule in value.items()
            )
        case "detectors":
            return ", ".join(value)
        case _:
            return value if isinstance(value, str) else f"{value:,.15g} {setting.unit}".replace(",", "\u202f").strip()
