"""`python -m bench`: our figures beside the bare limit's in one run, as ratios."""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import away, batch, cold, decisions, rest, streaming, watching
from .drift import measuring as drift
from .model import census
from .peers import measuring
from .stage import stage


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        default=["rest", "stream", "batch", "peers", "cold"],
        help="rest, stream, batch, peers, cold, away, decisions, drift, watch",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one REST run")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rows", type=int, default=100_000, help="of one streaming run")
    parser.add_argument("--batch-rows", type=int, default=1_000_000, help="of one batch")
    parser.add_argument("--away-seconds", type=float, default=60.0, help="for how long Kafka is away")
    parser.add_argument("--decisions", type=int, default=1_000_000, help="recorded ones to look up among")
    parser.add_argument("--seeds", type=int, default=20, help="streams of each kind of drift")
    parser.add_argument("--stationary-rows", type=int, default=20_000_000, help="rows without drift")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-", ignore_cleanup_errors=True) as name:
        found = _measure(given, Path(name))
    found["load_average"] = os.getloadavg()[0]
    _show(found)
    text = json.dumps(found, indent=2)
    if given.json:
        given.json.write_text(text + "\n")
    print(text)


def _measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "decisions" in given.what:
        found["decisions"] = decisions.measure(folder, given.decisions)
    if "drift" in given.what:
        found["drift"] = drift.measure(given.seeds, given.stationary_rows)
    if "watch" in given.what:
        found["watch"] = watching.measure(folder / "watch")
    if not set(given.what) - {"decisions", "drift", "watch"}:
        return found
    model = census(folder / "packages")
    if "cold" in given.what:
        both = model, census(folder / "packages", "sklearn")
        with stage(folder / "small", FAIRLEAD_SCORER_MEMORY_MB=str(cold.BUDGET_MB)) as platform:
            found["cold"] = cold.measure(platform, both, folder, 2 * given.rounds)
    if not set(given.what) - {"cold", "decisions", "drift", "watch"}:
        return found
    with stage(folder / "home") as platform:
        if "rest" in given.what:
            counts = tuple(given.connections)
            found["rest"] = rest.measure(platform, model, folder, counts, given.rounds, given.seconds, 1)
            found["rest"] += rest.measure(platform, model, folder, (16,), given.rounds, given.seconds, 100)
        if "stream" in given.what:
            found["stream"] = streaming.measure(platform, model, folder, given.rounds, given.rows)
        if "batch" in given.what:
            found["batch"] = batch.measure(platform, model, folder, given.rounds, given.batch_rows)
        if "away" in given.what:
            found["away"] = away.measure(platform, model, given.away_seconds)
        if "peers" in given.what:
            both = model, census(folder / "packages", "sklearn")
            counts = tuple(given.connections)
            found["peers"] = measuring.measure(platform, both, folder, counts, given.rounds, given.seconds)
    return found


def _show_drift(console: Console, found: dict[str, Any]) -> None:
    table = Table("rows from change to alarm, median (worst)", *next(iter(found["delays"].values())))
    for change, by_detector in found["delays"].items():
        cells = [_delay(one) for one in by_detector.values()]
        table.add_row(change, *cells)
    console.print(table)
    calm = found["stationary"]
    console.print(
        f"{calm['rows']:,} stationary rows at a budget of {calm['budget_rows']:,}: {calm['alarms']} alarms, "
        f"{calm['notes']} notes; {calm['rows_per_cpu_s']:,} rows a CPU second"
    )
    for one in found["seasons"]:
        console.print(
            f"season of {one['period']:,} rows, declared, over {one['rows']:,}: "
            f"{one['alarms']} alarms, {one['notes']} notes"
        )
    for year, one in found["census"].items():
        console.print(f"census of {year}, {one['rows']:,} rows: {one['alarms']} alarms; notes: {one['notes']}")


def _delay(found: dict[str, Any]) -> str:
    said = f"{found['median']:,.0f} ({found['worst']:,})" if found["median"] is not None else "-"
    missed = f", {found['missed']} missed" if found["missed"] else ""
    return said + missed + (f", {found['false']} false" if found["false"] else "")


def _show_away(console: Console, found: dict[str, Any]) -> None:
    table = Table("Kafka", "p50 ms", "p99 ms", "p99.9 ms", "worst ms")
    for name, line in (("there", found["before"]), ("away", found["away"])):
        table.add_row(name, *(f"{line[key]:.2f}" for key in ("p50_ms", "p99_ms", "p999_ms", "worst_ms")))
    console.print(table)
    console.print(
        f"{found['requests']:,} requests at {found['rate']:,} a second, Kafka away for {found['seconds']:.0f} s: all "
        f"logged {found['logged_after_s']:.1f} s after it was back"
    )


def _show(found: dict[str, Any]) -> None:
    console = Console()
    if line := found.get("away"):
        _show_away(console, line)
    if lines := found.get("rest"):
        table = Table(
            "connections", "rows", "bare/s", "ours/s", "ratio", "CPU µs each", "bare p50/p99 ms", "ours p50/p99 ms"
        )
        for line in lines:
            bare, ours = line["bare"], line["fairlead"]
            table.add_row(
                str(line["connections"]), str(line["rows"]), f"{bare['per_second']:,.0f}", f"{ours['per_second']:,.0f}",
                f"{line['ratio']:.2f}", f"{bare['cpu_us']:.0f} / {ours['cpu_us']:.0f}",
                f"{bare['p50_ms']:.2f} / {bare['p99_ms']:.2f}",
                f"{ours['p50_ms']:.2f} / {ours['p99_ms']:.2f}",
            )  # fmt: skip
        console.print("REST: token, schema check and durable log, beside a bare ASGI endpoint with the same model")
        console.print(table)
    if line := found.get("stream"):
        table = Table("stream", "rows/s", "CPU µs a row", "ratio")
        table.add_row(
            "hand-written", f"{line['hand-written']['per_second']:,.0f}", f"{line['hand-written']['cpu_us']:.0f}", "1"
        )
        table.add_row(
            "fairlead",
            f"{line['fairlead']['per_second']:,.0f}",
            f"{line['fairlead']['cpu_us']:.0f}",
            f"{line['ratio']:.2f}",
        )
        console.print("Streaming, exactly once, results and log together")
        console.print(table)
    if lines := found.get("watch"):
        table = Table("rows a record", "features", "rows/s", "CPU µs a row", "resident MB")
        for line in lines:
            table.add_row(
                str(line["rows"]), str(line["features"]), f"{line['per_second']:,}", f"{line['cpu_us']:.1f}",
                str(line["resident_mb"]),
            )  # fmt: skip
        console.print("The monitor from Kafka to windows, one process on one core")
        console.print(table)
    if line := found.get("drift"):
        _show_drift(console, line)
    if line := found.get("decisions"):
        table = Table("decisions found again", "small files p50/p99 ms", "merged files p50/p99 ms")
        for name, one in line["small files"].items():
            other = line["merged files"][name]
            table.add_row(name, *(f"{each['p50_ms']:.1f} / {each['p99_ms']:.1f}" for each in (one, other)))
        console.print(f"Among {line['decisions']:,} decisions of one row and 30 columns")
        console.print(table)
    for line in found.get("peers", []):
        table = Table(f"{line['connections']} connections", "requests/s", "CPU µs each", "p50/p99 ms")
        for name, one in line.items():
            if name != "connections":
                table.add_row(
                    name,
                    f"{one['per_second']:,.0f}",
                    f"{one['cpu_us']:.0f}",
                    f"{one['p50_ms']:.2f} / {one['p99_ms']:.2f}",
                )
        console.print("The same model behind each server, one row a request")
        console.print(table)
    if lines := found.get("cold"):
        table = Table("cold model", "first answer ms", "own load ms", "beyond it ms", "worst", "warm ms")
        for line in lines:
            figures = ("first_ms", "load_ms", "beyond_ms", "worst_beyond_ms", "warm_ms")
            table.add_row(line["format"], *(f"{line[name]:.1f}" for name in figures))
        console.print("A model that is not in memory: its first answer, and what its libraries alone take to open it")
        console.print(table)
    if line := found.get("batch"):
        table = Table("batch", "rows/s", "CPU µs a row", "ratio", "ratio of CPU")
        plain, ours = line["plain"], line["fairlead"]
        table.add_row("plain loop", f"{plain['per_second']:,.0f}", f"{plain['cpu_us']:.2f}", "1", "1")
        table.add_row(
            "fairlead", f"{ours['per_second']:,.0f}", f"{ours['cpu_us']:.2f}", f"{line['ratio']:.2f}",
            f"{line['cpu_ratio']:.2f}",
        )  # fmt: skip
        console.print("A file scored, its results kept and its chunks logged")
        console.print(table)


if __name__ == "__main__":
    main()
