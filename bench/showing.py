"""The figures of a run as tables, for people."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

Found = Any
"""What one part measured, as JSON has it."""


def show(found: dict[str, Any]) -> None:
    """Each part that was measured."""
    console = Console()
    for name, part in found.items():
        if tell := _TELLS.get(name):
            tell(console, part)


def _rest(console: Console, lines: Found) -> None:
    table = Table(
        "connections", "rows", "bare/s", "ours/s", "ratio", "CPU µs each", "bare p50/p99 ms", "ours p50/p99 ms"
    )
    for line in lines:
        bare, ours = line["bare"], line["fairlead"]
        table.add_row(
            str(line["connections"]), str(line["rows"]), f"{bare['per_second']:,.0f}", f"{ours['per_second']:,.0f}",
            f"{line['ratio']:.2f}", f"{bare['cpu_us']:.0f} / {ours['cpu_us']:.0f}", _times(bare), _times(ours),
        )  # fmt: skip
    console.print("REST: token, schema check and durable log, beside a bare ASGI endpoint with the same model")
    console.print(table)


def _peers(console: Console, lines: Found) -> None:
    for line in lines:
        table = Table(f"{line['connections']} connections", "requests/s", "CPU µs each", "p50/p99 ms")
        for name, one in line.items():
            if name != "connections":
                table.add_row(name, f"{one['per_second']:,.0f}", f"{one['cpu_us']:.0f}", _times(one))
        console.print("The same model behind each server, one row a request")
        console.print(table)


def _times(one: Found) -> str:
    return f"{one['p50_ms']:.2f} / {one['p99_ms']:.2f}"


def _stream(console: Console, line: Found) -> None:
    table = Table("stream", "rows/s", "CPU µs a row", "ratio")
    for name, ratio in (("hand-written", 1.0), ("fairlead", line["ratio"])):
        table.add_row(name, f"{line[name]['per_second']:,.0f}", f"{line[name]['cpu_us']:.0f}", f"{ratio:.2f}")
    console.print("Streaming, exactly once, results and log together")
    console.print(table)


def _batch(console: Console, line: Found) -> None:
    table = Table("batch", "rows/s", "CPU µs a row", "ratio", "ratio of CPU")
    for name, ratio, cpu_ratio in (("plain", 1.0, 1.0), ("fairlead", line["ratio"], line["cpu_ratio"])):
        one = line[name]
        table.add_row(
            name, f"{one['per_second']:,.0f}", f"{one['cpu_us']:.2f}", f"{ratio:.2f}", f"{cpu_ratio:.2f}"
        )  # fmt: skip
    console.print("A file scored, its results kept and its chunks logged, beside a plain loop")
    console.print(table)


def _cold(console: Console, lines: Found) -> None:
    table = Table("cold model", "first answer ms", "own load ms", "beyond it ms", "worst", "warm ms")
    for line in lines:
        figures = ("first_ms", "load_ms", "beyond_ms", "worst_beyond_ms", "warm_ms")
        table.add_row(line["format"], *(f"{line[name]:.1f}" for name in figures))
    console.print("A model that is not in memory: its first answer, and what its libraries alone take to open it")
    console.print(table)


def _away(console: Console, found: Found) -> None:
    _latencies(console, "Kafka", {"there": found["before"], "away": found["away"]})
    console.print(
        f"{found['requests']:,} requests at {found['rate']:,} a second, Kafka away for {found['seconds']:.0f} s: all "
        f"logged {found['logged_after_s']:.1f} s after it was back"
    )
    console.print(
        f"{found['waiting_mb']:.0f} MiB waited in the spool, worker and forwarder grew by {found['grown_mb']:.0f}; "
        f"/readyz said {found['readyz']['status']}: {found['readyz']['delayed']}"
    )
    _bound(console, found, "p99 without Kafka")


def _neighbour(console: Console, found: Found) -> None:
    _latencies(console, "an endpoint", {"alone": found["alone"], "beside the other": found["beside"]})
    console.print(
        f"{found['rate']:,} requests a second, in {found['rounds']} rounds; beside it a sandboxed model that burned "
        f"{found['burned_s']:.1f} s of their core"
    )
    _bound(console, found, "p99 beside it")


def _latencies(console: Console, what: str, lines: Found) -> None:
    table = Table(what, "p50 ms", "p99 ms", "p99.9 ms", "worst ms")
    for name, line in lines.items():
        table.add_row(name, *(f"{line[key]:.2f}" for key in ("p50_ms", "p99_ms", "p999_ms", "worst_ms")))
    console.print(table)


def _bound(console: Console, found: Found, what: str) -> None:
    said = "kept" if found["kept"] else "broken"
    console.print(f"{what}: {found['ratio']:.2f} times the other, bound {found['bound']}: {said}")


def _watch(console: Console, lines: Found) -> None:
    table = Table("rows a record", "features", "endpoints", "rows/s", "CPU µs a row", "resident MB")
    for line in lines:
        table.add_row(
            *(str(line[name]) for name in ("rows", "features", "endpoints")), f"{line['per_second']:,}",
            f"{line['cpu_us']:.1f}", str(line["resident_mb"]),
        )  # fmt: skip
    console.print("The monitor from Kafka to windows, one process on one core")
    console.print(table)


def _decisions(console: Console, line: Found) -> None:
    table = Table("decisions found again", "small files p50/p99 ms", "merged files p50/p99 ms")
    for name, one in line["small files"].items():
        other = line["merged files"][name]
        table.add_row(name, *(f"{each['p50_ms']:.1f} / {each['p99_ms']:.1f}" for each in (one, other)))
    console.print(f"Among {line['decisions']:,} decisions of one row and 30 columns")
    console.print(table)


def _drift(console: Console, found: Found) -> None:
    table = Table("rows from change to alarm, median (worst)", *next(iter(found["delays"].values()), {}))
    for detector, by_change in found["delays"].items():
        table.add_row(detector, *(_delay(one) for one in by_change.values()))
    if found["delays"]:
        console.print(table)
    if "stationary" not in found:
        return
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


def _delay(found: Found) -> str:
    said = f"{found['median']:,.0f} ({found['worst']:,})" if found["median"] is not None else "-"
    missed = f", {found['missed']} missed" if found["missed"] else ""
    return said + missed + (f", {found['false']} false" if found["false"] else "")


_TELLS: dict[str, Callable[[Console, Found], None]] = {
    "rest": _rest, "peers": _peers, "stream": _stream, "batch": _batch, "cold": _cold, "away": _away, "watch": _watch,
    "neighbour": _neighbour, "decisions": _decisions, "drift": _drift,
}  # fmt: skip
