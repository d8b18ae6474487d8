"""Commands about schedules of batches."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fairlead.answers import Schedule

from .output import Json, out, refusals, render, show_facts, show_table
from .pages import render_list
from .session import client

app = typer.Typer(help="Batches at times, or when a file arrives.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The schedule's id.")]


@app.command()
def add(
    context: typer.Context,
    endpoint: Annotated[str, typer.Argument(help="The endpoint's name.")],
    cron: Annotated[str | None, typer.Option(help="When: five members, such as '0 6 * * *'.")] = None,
    timezone: Annotated[str | None, typer.Option(help="By which clock, such as Europe/Berlin; else UTC.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="connection/path of the file; {date} is the day of the time.")
    ] = None,
    arrives: Annotated[str | None, typer.Option(help="connection/prefix: each file that arrives there.")] = None,
    to: Annotated[str | None, typer.Option(help="connection/path of the result; {id} is the batch's id.")] = None,
    version: Annotated[
        int | None, typer.Option("--version", "-v", min=1, help="A version that the endpoint holds.")
    ] = None,
    json: Json = False,
) -> None:
    """Score a file at times, or each file that arrives."""
    with refusals():
        fl = client(context)
        made = fl.schedule(
            endpoint, cron=cron, timezone=timezone, source=source, arrives=arrives, output=to, version=version
        )  # fmt: skip
    render(made, json, lambda: _show(made))


@app.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """List schedules."""
    with refusals():
        page = client(context).schedules(limit=limit)
    render_list(page, json, lambda: show_table(
        ["Id", "Endpoint", "When", "State", "Next", "Missed", "Reason"],
        ([s.id, s.order.get("endpoint"), _when(s.order), s.state, s.next_at, s.missed, s.reason] for s in page.items),
        "No schedules.",
    ))  # fmt: skip


@app.command()
def show(context: typer.Context, id: Id, json: Json = False) -> None:
    """Show a schedule and what its latest times or files became."""
    with refusals():
        found = client(context).schedule_state(id)
    render(found, json, lambda: _show(found))


@app.command()
def pause(context: typer.Context, id: Id, json: Json = False) -> None:
    """Do nothing for it until it is resumed."""
    with refusals():
        found = client(context).pause_schedule(id)
    render(found, json, lambda: _show(found))


@app.command()
def resume(context: typer.Context, id: Id, json: Json = False) -> None:
    """Go on with it."""
    with refusals():
        found = client(context).resume_schedule(id)
    render(found, json, lambda: _show(found))


@app.command()
def delete(context: typer.Context, id: Id) -> None:
    """End it; its batches stay."""
    with refusals():
        client(context).end_schedule(id)
    out.print(f"Schedule {id} is deleted.")


def _when(order: Mapping[str, Any]) -> str:
    arrives = order.get("arrives")
    return (
        f"arrives: {arrives['connection']}/{arrives['prefix']}"
        if arrives
        else f"{order.get('cron')} {order.get('timezone', 'UTC')}"
    )


def _show(schedule: Schedule) -> None:
    show_facts({
        "id": schedule.id, "endpoint": schedule.order.get("endpoint"), "when": _when(schedule.order),
        "state": schedule.state, "next": schedule.next_at, "missed": schedule.missed, "reason": schedule.reason,
    })  # fmt: skip
    if schedule.runs:
        out.print()
        rows = ([run.key, run.batch, run.reason, run.at] for run in schedule.runs)
        show_table(["Time or file", "Batch", "Reason", "At"], rows, "")
