"""Waiting for what takes a while, with its progress in view, and going on with it later."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Protocol, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fairlead.answers import Batch, Deployment, Replay, Retraining
from fairlead.client import Fairlead
from fairlead.errors import NotFound

from .output import Exit, Json, err, out, refusals, render, show_facts
from .session import client

app = typer.Typer()

_LOOKS_S = 0.3


class Long(Protocol):
    """What is asked for now and settled later."""

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def settled(self) -> bool: ...


L = TypeVar("L", bound=Long)


class Kind(StrEnum):
    """What can be followed."""

    DEPLOYMENT = "deployment"
    BATCH = "batch"
    RETRAINING = "retraining"
    REPLAY = "replay"


@app.command()
def follow(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What was asked for.")],
    id: Annotated[str, typer.Argument(help="Its id.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it is settled; 0: look once.")] = 600.0,
    json: Json = False,
) -> None:
    """Go on waiting for a deployment, a batch, a retraining or a replay of decisions."""
    with refusals():
        fl = client(context)
        match kind:
            case Kind.DEPLOYMENT:
                finish_deployment(until_settled(fl.deployment(id), fl.deployment, wait), wait, json)
            case Kind.BATCH:
                finish_batch(scored(fl, fl.batch_state(id), wait), wait, json)
            case Kind.RETRAINING:
                finish_retraining(until_settled(fl.retraining(id), fl.retraining, wait), wait, json)
            case Kind.REPLAY:
                finish_replay(until_settled(fl.replay_of_decisions(id), fl.replay_of_decisions, wait), wait, json)


def until_settled(now: L, look: Callable[[str], L], wait: float, seen: Callable[[L], None] | None = None) -> L:
    """Look again and again until it is settled or the time is over; its state is in view meanwhile."""
    deadline = time.monotonic() + wait
    with err.status(f"{now.state} …") as status:
        while not now.settled and time.monotonic() < deadline:
            time.sleep(min(_LOOKS_S, wait))
            try:
                now = look(now.id)
            except NotFound:
                continue  # asked for at one service, not yet heard of at the other
            status.update(f"{now.state} …")
            if seen:
                seen(now)
    return now


def scored(fl: Fairlead, batch: Batch, wait: float) -> Batch:
    """Follow a batch with a bar."""
    with _bar() as progress:
        task = progress.add_task("Scoring", total=batch.rows_total)

        def moved(now: Batch) -> None:
            progress.update(task, total=now.rows_total, completed=now.rows_done)

        return until_settled(batch, fl.batch_state, wait, moved)


@contextmanager
def _bar() -> Generator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        yield progress


def finish_deployment(deployment: Deployment, wait: float, json: bool) -> None:
    """Show how far a deployment came, and end with the code that tells it."""
    render(deployment, json, lambda: _deployment(deployment))
    _finish(Kind.DEPLOYMENT, deployment, wait, bad=deployment.settled and deployment.state != "serving")


def _deployment(deployment: Deployment) -> None:
    out.print(f"Deployment [bold]{deployment.id}[/bold]")
    show_facts({
        "endpoint": deployment.endpoint, "model": f"{deployment.model} v{deployment.version}",
        "state": deployment.state, "reason": deployment.reason,
    })  # fmt: skip


def finish_batch(batch: Batch, wait: float, json: bool) -> None:
    """Show how far a batch came, and end with the code that tells it."""
    render(batch, json, lambda: show_facts(batch.model_dump(mode="json")))
    _finish(Kind.BATCH, batch, wait, bad=batch.state in ("failed", "refused", "cancelled"))


def finish_retraining(found: Retraining, wait: float, json: bool) -> None:
    """Show how far a retraining came, and end with the code that tells it."""
    facts = {name: value for name, value in found.model_dump(mode="json").items() if not isinstance(value, list)}
    render(found, json, lambda: show_facts(facts))
    _finish(Kind.RETRAINING, found, wait, bad=found.state == "failed")


def finish_replay(found: Replay, wait: float, json: bool) -> None:
    """Show what a challenger would have decided, and end with the code that tells how it went."""
    render(found, json, lambda: _replay(found))
    _finish(Kind.REPLAY, found, wait, bad=found.state == "failed")


def _replay(found: Replay) -> None:
    said, judged = found.result, found.result.get("comparison") or {}
    show_facts({
        "id": found.id, "endpoint": found.endpoint, "challenger": f"{found.model} v{found.version}",
        "state": found.state, "rows": said.get("rows"), "of versions": said.get("by_version"),
        "agreement": said.get("agreement"), "mean difference": said.get("difference"),
        "truth known of": said.get("labelled"), "as decided": judged.get("champion"),
        "the challenger": judged.get("candidate"), "told": found.reason,
    })  # fmt: skip


def _finish(kind: Kind, what: Long, wait: float, *, bad: bool) -> None:
    if bad:
        raise typer.Exit(Exit.REFUSED)
    if wait and not what.settled:
        err.print(
            f"[yellow]After {wait:g} s the {kind} is still {what.state}. It goes on by itself; "
            f"wait on with: fairlead follow {kind} {what.id}[/yellow]",
            soft_wrap=True,
        )
        raise typer.Exit(Exit.UNDER_WAY)
