"""Delays over labelled streams, false alarms over stationary ones, and years of a real survey."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from contracts import Column, ModelSchema, TensorSpec
from examples.census import rows as census
from services.monitor.domain.season import Season
from services.monitor.domain.windows import Block

from . import agreeing, beside, streams
from .ours import WINDOW_ROWS, Found, Monitor
from .streams import NAMES, Array, Stream

BUDGET = 1_000_000
_BEFORE, _AFTER = 10_000, 10_000
_LOADINGS = (0.0, 0.35)
_LOADING: dict[streams.Change, float] = {"correlation": 0.35, "flipped": 0.35, "gained": 0.0}
"""Columns without correlations have none to lose, and those that have some none to gain."""


def measure(seeds: int, stationary_rows: int, parts: Sequence[str] = ()) -> dict[str, Any]:
    """All figures, or those of some parts: `ours` and the peers by name, `agreement` of plain statistics, `alone` what
    concerns no peer; `seeds` streams of each kind, half of them with correlated columns."""
    which = parts or ("ours", "alone", "agreement", *beside.known())
    drawn: list[tuple[streams.Change, list[Stream]]] = [
        (change, [Stream(change, seed, _LOADING.get(change, _LOADINGS[seed % 2])) for seed in range(seeds)])
        for change in streams.CHANGES
    ]  # fmt: skip
    levels, found = beside.measure(drawn, BUDGET, which)
    if "ours" in which:
        found = {"fairlead": {change: [_ours(stream) for stream in some] for change, some in drawn}, **found}
    told = {
        name: {change: beside.told(rows) for change, rows in by_change.items()} for name, by_change in found.items()
    }
    agreement = {"agreement": agreeing.measure()} if "agreement" in which else {}
    return {"delays": told, "levels": levels, **agreement, **(_alone(stationary_rows) if "alone" in which else {})}


def _alone(stationary_rows: int) -> dict[str, Any]:
    return {
        "stationary": stationary(stationary_rows),
        "seasons": [seasonal(period, seed) for period in (5_000, 20_000, 100_000) for seed in range(2)],
        "undeclared": [undeclared(seed) for seed in range(4)],
        "census": survey(),
    }


def _columns(rows: Array) -> dict[str, Array]:
    return {name: rows[:, place] for place, name in enumerate((*NAMES, "label"))}


def _ours(stream: Stream) -> int | None:
    monitor = Monitor(stream.reference(), streams.schema(), BUDGET)
    within = stream.seed * 7 % WINDOW_ROWS  # a change begins anywhere in a window
    for first, rows in stream.anew().pieces(_BEFORE + within, _AFTER):
        for found in monitor.see(_columns(rows), first):
            if found.finding.kind == "alarm":
                return found.row
    return None


def stationary(rows: int, budget_rows: int = BUDGET) -> dict[str, Any]:
    """Alarms and notes over rows that do not change, in ten worlds, at the default budget."""
    found: list[Found] = []
    spent = 0.0
    for seed in range(10):
        stream = Stream("none", 5_000 + seed)
        monitor = Monitor(stream.reference(), streams.schema(), budget_rows)
        for first, made in stream.pieces(rows // 10, 0, 20_000):
            began = time.process_time()
            new = [*monitor.see(_columns(made), first)]
            spent += time.process_time() - began
            if any(each.finding.kind == "alarm" for each in new):
                monitor.accept()
            found += new
    kinds = [each.finding.kind for each in found]
    return {
        "rows": rows, "budget_rows": budget_rows, "alarms": kinds.count("alarm"), "notes": kinds.count("note"),
        "rows_per_cpu_s": round(rows / spent),
    }  # fmt: skip


def seasonal(period: int, seed: int) -> dict[str, Any]:
    """Three columns that swing by 0.7 standard deviations, over twenty periods or 300,000 rows; it is declared."""
    stream = Stream("none", seed)
    monitor = Monitor(stream.reference(), streams.schema(), BUDGET, Season(float(period)))
    rows, found = min(20 * period, 300_000), list[Found]()
    for first, made in stream.pieces(rows, 0):
        made[:, : streams.CHANGED] += 0.7 * np.sin(2 * np.pi * np.arange(first, first + len(made)) / period)[:, None]
        found += monitor.see(_columns(made), first)
    kinds = [each.finding.kind for each in found]
    return {"period": period, "rows": rows, "alarms": kinds.count("alarm"), "notes": kinds.count("note")}


def undeclared(seed: int, days: int = 14) -> dict[str, Any]:
    """Three columns that swing by 0.7 standard deviations within a day of 86,400 rows; nobody says so. After the last
    day three others move by half a standard deviation."""
    stream = Stream("none", seed)
    monitor = Monitor(stream.reference(), streams.schema(), BUDGET)
    hours: list[Block] = []
    found: list[Found] = []
    learned_after: int | None = None
    for number, (_, made) in enumerate(stream.pieces((24 * days + 3) * 3_600, 0, 3_600)):
        at = np.arange(len(made)) + 3_600 * number
        made[:, : streams.CHANGED] += 0.7 * np.sin(2 * np.pi * at / 86_400)[:, None]
        made[:, streams.CHANGED : 2 * streams.CHANGED] += 0.5 * (number >= 24 * days)
        found += [replace(each, row=number) for each in monitor.see(_columns(made), 3_600 * number)]
        hours.append(monitor.hour(_columns(made), number))
        if learned_after is None and found and monitor.learn(hours, BUDGET):
            learned_after = number + 1
    alarms = [each.row for each in found if each.finding.kind == "alarm"]
    since = [hour for hour in alarms if learned_after is not None and hour >= learned_after]
    return {
        "rows": len(hours) * 3_600, "alarm_at_hour": min(alarms, default=None), "learned_after_hours": learned_after,
        "false_alarms_since": sum(hour < 24 * days for hour in since), "step_found": any(h >= 24 * days for h in since),
    }  # fmt: skip


def survey() -> dict[str, Any]:
    """The census of 2016 and 2017 against that of 2015: small true changes, told as notes."""
    base, order = census.year(2015), ModelSchema(
        inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, len(census.COLUMNS))),),
        outputs=(TensorSpec(name=census.LABEL, datatype="INT64", shape=(-1,)),),
        columns=tuple(Column(name=name) for name in census.COLUMNS), prediction=census.LABEL,
    )  # fmt: skip
    monitor = Monitor(base, order, BUDGET)
    told: dict[str, Any] = {}
    first = 0
    for year in (2016, 2017):
        table = census.shuffled(census.year(year), 0)
        columns = {name: table[name].to_numpy().astype(float) for name in (*census.COLUMNS, census.LABEL)}
        found = [*monitor.see(columns, first)]
        first += table.num_rows
        told[str(year)] = {
            "rows": table.num_rows, "alarms": sum(each.finding.kind == "alarm" for each in found),
            "notes": [
                f"{effect.name} {effect.size:+.3f} {effect.unit}"
                for each in found if each.finding.kind == "note" for effect in each.finding.effects
            ],
        }  # fmt: skip
    return told
