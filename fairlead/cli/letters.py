"""Commands about dead letters: what could not be handled, and giving it out again."""

from typing import Annotated

import typer

from .output import Json, out, refusals, render, show_table
from .pages import render_list
from .session import client

app = typer.Typer(help="Dead letters: records that a service could not handle.", no_args_is_help=True)


@app.command("list")
def list_(
    context: typer.Context,
    topic: Annotated[str | None, typer.Argument(help="Only those of this topic.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """List dead letters with the reason."""
    with refusals():
        page = client(context).dead_letters(topic, limit=limit)
    render_list(page, json, lambda: show_table(
        ["Topic", "At", "Source", "For", "Error", "Reason", "When"],
        ([d.topic, f"{d.partition}:{d.offset}", d.source, d.service, d.error, d.reason, d.at] for d in page.items),
        "No dead letters: everything could be handled.",
    ))  # fmt: skip


@app.command()
def replay(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help="The dead-letter topic, such as dlq.model.registered.")],
    at: Annotated[list[str] | None, typer.Option(help="Only the record at partition:offset; may be repeated.")] = None,
    json: Json = False,
) -> None:
    """Give dead letters to the service that gave them up; a repeat has no second effect."""
    records = [_position(text) for text in at] if at else None
    with refusals():
        document = client(context).replay(topic, records)
    left = f" {document['left']} cannot be replayed." if document.get("left") else ""
    render(document, json, lambda: out.print(f"Replayed {document.get('replayed', 0)} of {topic}.{left}"))


def _position(text: str) -> tuple[int, int]:
    partition, _, offset = text.partition(":")
    if not (partition.isdigit() and offset.isdigit()):
        raise typer.BadParameter(f"{text!r} is not of the form partition:offset")
    return int(partition), int(offset)
