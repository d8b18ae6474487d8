"""What runs, where, since when: as a table for people."""

from contextlib import suppress
from datetime import UTC, datetime

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from .home import Home
from .processes import born
from .state import PartRecord, State

_COLOURS = {"ready": "green", "external": "cyan", "starting": "yellow", "restarting": "red", "gone": "red",
            "not ready": "red"}  # fmt: skip


def table(home: Home, state: State, unready: dict[str, str]) -> Table:
    """The parts as they stand; `unready` gives, by part, why it says itself that it is not ready."""
    shown = Table(
        title=f"Fairlead in {home.path}", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for heading, justify in (("part", "left"), ("state", "left"), ("where", "left"), ("since", "left"),
                             ("restarts", "right"), ("pid", "right"), ("MB", "right")):  # fmt: skip
        shown.add_column(heading, justify=justify, style="bold" if heading == "part" else "")  # pyright: ignore[reportArgumentType]
    for name, record in state.parts.items():
        now = "not ready" if name in unready else _now(record)
        cells = (
            record.address,
            _age(record.since),
            str(record.restarts or ""),
            str(record.pid or ""),
            _megabytes(record),
        )
        shown.add_row(name, f"[{_COLOURS.get(now, 'white')}]{now}[/]", *cells)
    return shown


def unready(state: State) -> dict[str, str]:
    """By service that runs, why it is not ready now; the recorded state is only that of its start."""
    asked = {name: record for name, record in state.parts.items()
             if record.address.startswith("http") and _now(record) == "ready"}  # fmt: skip
    return {name: reason for name, record in asked.items() if (reason := _why_unready(record.address))}


def _why_unready(address: str) -> str:
    try:
        answer = httpx.get(f"{address}/readyz", timeout=2, trust_env=False)
    except httpx.HTTPError as error:
        return f"/readyz does not answer: {type(error).__name__}"
    if answer.status_code == 200:
        return ""
    try:
        return "; ".join(map(str, answer.json()["problems"])) or f"/readyz answers {answer.status_code}"
    except (ValueError, KeyError, TypeError):
        return f"/readyz answers {answer.status_code}"


def all_well(state: State) -> bool:
    return state.phase == "ready" and all(_now(record) in ("ready", "external") for record in state.parts.values())


def links(home: Home, state: State, console: Console) -> None:
    """The addresses that a person opens next."""
    running = Home(home.path, state.port)
    if "console" in state.parts:
        console.print(f"\nconsole    {running.url('console')}")
    console.print(f"addresses  {running.endpoints}\ntokens     {running.path / 'tokens'}\nlogs       {running.logs}")


def _now(record: PartRecord) -> str:
    if record.state == "ready" and born(record.pid) != record.born:
        return "gone"
    return record.state


def _age(since: str) -> str:
    if not since:
        return ""
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _megabytes(record: PartRecord) -> str:
    """Resident memory of the process and everything it started."""
    if born(record.pid) != record.born or not record.pid:
        return ""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(record.pid)
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                # Shared pages once: PostgreSQL's backends and forked workers share most of theirs.
                total += member.memory_info().rss - (member.memory_info().shared if member is not process else 0)
    return str(total // 1_000_000)
