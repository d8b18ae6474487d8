"""What the command line prints: tables for people, JSON for programs, errors on standard error."""

import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any

import orjson
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairlead.errors import FairleadError, Misconfigured, TimedOut, Unreachable

# A pipe has no width: nothing is folded for it.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
err = Console(stderr=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


class Exit(IntEnum):
    """What a script can trust: the exit codes of every command."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNDER_WAY = 4


_COLOURS = {
    "serving": "green", "granted": "green", "ready": "green", "completed": "green", "candidate_won": "green",
    "pending": "yellow", "requested": "yellow", "waiting": "yellow", "rolling_out": "yellow", "running": "yellow",
    "failed": "red", "rejected": "red", "retired": "red", "not ready": "red", "revoked": "red", "away": "red",
}  # fmt: skip


@contextmanager
def refusals() -> Generator[None]:
    """Turn what the platform refuses into one line on standard error and an exit code."""
    try:
        yield
    except Misconfigured as error:
        _fail(error, Exit.USAGE)
    except Unreachable as error:
        _fail(error, Exit.UNREACHABLE)
    except TimedOut as error:
        _fail(error, Exit.UNDER_WAY)
    except FairleadError as error:
        _fail(error, Exit.REFUSED)


def _fail(error: FairleadError, code: Exit) -> None:
    err.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
    raise typer.Exit(code)


def named(texts: Iterable[str] | None, beside: Sequence[str]) -> dict[str, str]:
    """`name=value` options as a mapping; `beside` are names that have an option of their own."""
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, found, value = text.partition("=")
        if not (found and name):
            raise typer.BadParameter(f"{text!r} is not of the form name=value")
        if name in beside or name in pairs:
            raise typer.BadParameter(f"{name} is given twice" if name in pairs else f"{name} has an option of its own")
        pairs[name] = value
    return pairs


def show_json(value: Any) -> None:
    """JSON on standard output, indented, in one piece."""
    sys.stdout.write(orjson.dumps(_plain(value), option=orjson.OPT_INDENT_2).decode() + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str, right: Iterable[str] = ()) -> None:
    """A table without decoration that would get in the way of reading; `empty` says what to do when there is none."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    numbers = set(right)
    for place, column in enumerate(columns):
        whole = place == 0  # what people copy
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    if table.row_count:
        out.print(table)
    else:
        out.print(f"[dim]{escape(empty)}[/dim]")


def show_facts(facts: Mapping[str, Any]) -> None:
    """Names and values, one a line; what is empty is left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value not in (None, "", [], {}, ()):
            table.add_row(name, cell(value))
    out.print(table)


def cell(value: Any) -> str:
    """A value as text for a table: numbers rounded, times short, states coloured and never by colour alone."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case list() | tuple():
            return ", ".join(cell(part) for part in value)
        case dict():
            return ", ".join(f"{name} {cell(part)}" for name, part in value.items())
        case _:
            text = escape(str(value))
            colour = _COLOURS.get(text)
            return f"[{colour}]{text}[/{colour}]" if colour else text


def render(value: Any, json: bool, table: Callable[[], None]) -> None:
    """One answer in the form that was asked for."""
    if json:
        show_json(value)
    else:
        table()
