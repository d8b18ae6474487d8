"""Commands about inferences: score, batch, outcomes, decision."""

import csv
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fairlead.answers import Batch, Scores
from fairlead.client import Fairlead
from fairlead.errors import Invalid

from .output import Exit, Json, err, out, refusals, render, show_facts, show_json, show_table
from .session import client

app = typer.Typer()

Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.")]


@app.command()
def score(
    context: typer.Context,
    endpoint: Endpoint,
    rows: Annotated[
        str, typer.Argument(help="A JSON object or array of objects, a .json or .csv file, or - for stdin.")
    ],
    entity: Annotated[str | None, typer.Option(help="What is decided about, for example a customer's number.")] = None,
    version: Annotated[
        int | None, typer.Option("--version", "-v", min=1, help="A version that the endpoint holds.")
    ] = None,
    json: Json = False,
) -> None:
    """Score rows at an endpoint."""
    with refusals():
        scores = client(context).score(endpoint, _rows(rows), entity=entity, version=version)
    render(scores, json, lambda: _scores(scores))


def _rows(given: str) -> Any:
    """Rows from the command line, from standard input or from a file."""
    if given == "-":
        return _json(sys.stdin.read(), "standard input")
    if given.lstrip().startswith(("{", "[")):
        return _json(given, "the argument")
    path = Path(given)
    try:
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                return [{name: _number(value) for name, value in row.items()} for row in csv.DictReader(file)]
        return _json(path.read_text(), given)
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}", field="rows") from error


def _json(text: str, where: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"rows: {where} is not JSON: {error}", field="rows") from error


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _scores(scores: Scores) -> None:
    show_facts({"endpoint": f"{scores.endpoint} v{scores.version}", "inference": scores.inference_id})
    out.print()
    rows = ([number, *values] for number, values in enumerate(zip(*scores.outputs.values(), strict=False)))
    show_table(["Row", *scores.outputs], rows, "The endpoint answered without rows.", right=["Row"])


@app.command()
def batch(
    context: typer.Context,
    endpoint: Endpoint,
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A Parquet file of rows.")],
    wait: Annotated[float, typer.Option(help="Seconds to wait until it is scored; 0: do not wait.")] = 600.0,
    json: Json = False,
) -> None:
    """Score a file of rows."""
    with refusals():
        fl = client(context)
        started = fl.batch(endpoint, path)
        done = _watched(fl, started, wait) if wait else started
    render(done, json, lambda: show_facts(done.model_dump(mode="json")))
    if done.state in ("failed", "refused"):
        raise typer.Exit(Exit.REFUSED)


def _watched(fl: Fairlead, batch: Batch, wait: float) -> Batch:
    deadline = time.monotonic() + wait
    with _bar() as progress:
        task = progress.add_task("Scoring", total=batch.rows_total)
        while not batch.settled and time.monotonic() < deadline:
            time.sleep(0.3)
            batch = fl.batch_state(batch.id)
            progress.update(task, total=batch.rows_total, completed=batch.rows_done)
    return batch


@contextmanager
def _bar() -> Generator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        yield progress


@app.command()
def outcomes(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(help="A .json or .csv file with inference_id, row, label, value; - for stdin.")
    ],
    json: Json = False,
) -> None:
    """Report what became true of decided rows."""
    with refusals():
        document = client(context).outcomes(_outcomes(path))
    render(document, json, lambda: show_facts(document))


def _outcomes(path: Path) -> list[dict[str, Any]]:
    if path.suffix != ".csv":
        listed = _rows(str(path))
        return listed if isinstance(listed, list) else [listed]
    try:
        with path.open(newline="") as file:
            return [_outcome(row) for row in csv.DictReader(file)]
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}", field="outcomes") from error


def _outcome(row: dict[str, str]) -> dict[str, Any]:
    numbers = {name: _number(row[name]) for name in ("label", "value") if row.get(name)}
    return {"inference_id": row.get("inference_id", ""), "row": int(row.get("row") or 0), **numbers}


@app.command()
def decision(
    context: typer.Context,
    inference_id: Annotated[str, typer.Argument(help="The id that the scoring answer carried.")],
    json: Json = False,
) -> None:
    """Look a decision up: what was asked and decided, by which version, what followed."""
    with refusals():
        found = client(context).decision(inference_id)
    if json:
        show_json(found)
        return
    document = found.model_dump(mode="json")
    show_facts({name: value for name, value in document.items() if not isinstance(value, dict | list)})
    for name in ("request", "response", "outcomes"):
        if document.get(name):
            out.print(f"\n[bold]{name.capitalize()}[/bold]")
            out.print_json(orjson.dumps(document[name]).decode())
