"""Commands about what runs where: deploy, rollback, approvals."""

from enum import StrEnum
from typing import Annotated

import typer

from fairlead.answers import Approval
from fairlead.answers import Endpoint as Served

from .following import finish_deployment, until_settled
from .output import Json, out, refusals, render, show_table
from .pages import render_list, whole
from .session import client

app = typer.Typer()

Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.")]
ApprovalId = Annotated[str, typer.Argument(help="The approval's id.")]
Variant = Annotated[str | None, typer.Option("--variant", help="Which of its versions; needed where it is not clear.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it is signed and audited.")]


class ApprovalState(StrEnum):
    """What a list of approvals can be narrowed to."""

    PENDING = "pending"
    GRANTED = "granted"
    REJECTED = "rejected"
    REVOKED = "revoked"
    ALL = "all"


class Strategies(StrEnum):
    """How a version comes to an endpoint."""

    DIRECT = "direct"
    CANARY = "canary"
    AB = "ab"
    BANDIT = "bandit"
    SHADOW = "shadow"
    FALLBACK = "fallback"


@app.command()
def deploy(
    context: typer.Context,
    endpoint: Endpoint,
    use_case: Annotated[str, typer.Option("--use-case", "-u", help="The use case that it serves.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The model.")],
    version: Annotated[int, typer.Option("--version", "-v", min=1, help="The version, from 1.")],
    strategy: Annotated[
        Strategies, typer.Option(help="In place of what serves (direct), or beside it.")
    ] = Strategies.DIRECT,
    weight: Annotated[float | None, typer.Option(help="Of a canary or an A/B variant: its share of requests.")] = None,
    variant: Annotated[str | None, typer.Option(help="What it is called beside the champion.")] = None,
    streaming: Annotated[bool, typer.Option(help="Also score events of a topic.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it serves; 0: do not wait.")] = 0.0,
    json: Json = False,
) -> None:
    """Ask for a version behind an endpoint; a second person grants it."""
    with refusals():
        fl = client(context)
        asked = fl.deploy(
            endpoint, use_case=use_case, model=model, version=version, strategy=strategy.value, weight=weight,
            variant=variant, streaming=streaming,
        )  # fmt: skip
        deployment = until_settled(asked, fl.deployment, wait)
    finish_deployment(deployment, wait, json)


@app.command()
def promote(context: typer.Context, endpoint: Endpoint, variant: Variant = None, json: Json = False) -> None:
    """Make a canary, or what else stands beside the champion, the champion."""
    with refusals():
        found = client(context).promote(endpoint, variant=variant)
    render(found, json, lambda: out.print(f"{endpoint} moves on to {found.model} version {found.version}."))


@app.command()
def weight(
    context: typer.Context,
    endpoint: Endpoint,
    share: Annotated[float, typer.Argument(help="Of the requests, between 0 and 1.")],
    variant: Variant = None,
    json: Json = False,
) -> None:
    """Give a canary or an A/B variant another share of the requests."""
    with refusals():
        found = client(context).weigh(endpoint, share, variant=variant)
    render(found, json, lambda: _show_variants(found))


@app.command()
def rollback(context: typer.Context, endpoint: Endpoint, variant: Variant = None, json: Json = False) -> None:
    """Take an experiment away; where there is none, go back to what an endpoint served before."""
    with refusals():
        found = client(context).rollback(endpoint, variant=variant)
    render(found, json, lambda: out.print(f"{endpoint} goes back to {found.model} version {found.version}."))


def _show_variants(endpoint: Served) -> None:
    show_table(
        ["Variant", "Model", "Does", "Share"],
        ([v.name, f"{v.model} v{v.version}", v.role, f"{v.weight:.2%}" if v.role == "live" else ""]
         for v in endpoint.variants),
        "Nothing serves.",
    )  # fmt: skip


@app.command()
def approvals(
    context: typer.Context,
    state: Annotated[ApprovalState, typer.Option(help="Only approvals in this state.")] = ApprovalState.PENDING,
    json: Json = False,
) -> None:
    """List what waits for a decision."""
    with refusals():
        fl, wanted = client(context), None if state is ApprovalState.ALL else state.value
        page = whole(lambda cursor: fl.approvals(wanted, cursor=cursor))
    render_list(page, json, lambda: show_table(
        ["Id", "Endpoint", "Model", "Use case", "State", "Asked by", "Gates"],
        (
            [a.id, a.endpoint, f"{a.model} v{a.version}", a.use_case, a.state, a.requested_by, _gates(a)]
            for a in page.items
        ),
        "Nothing waits for a decision.",
    ))  # fmt: skip


def _gates(approval: Approval) -> str:
    passed = sum(gate.passed for gate in approval.gates)
    failed = ", ".join(gate.name for gate in approval.gates if not gate.passed)
    return f"{passed}/{len(approval.gates)} passed" + (f"; failed: {failed}" if failed else "")


@app.command()
def approve(context: typer.Context, approval_id: ApprovalId, reason: Reason, json: Json = False) -> None:
    """Grant an approval that somebody else asked for."""
    with refusals():
        document = client(context).approve(approval_id, reason)
    render(document, json, lambda: out.print("[green]Granted.[/green] The deployer rolls it out now."))


@app.command()
def reject(context: typer.Context, approval_id: ApprovalId, reason: Reason, json: Json = False) -> None:
    """Refuse an approval."""
    with refusals():
        document = client(context).reject(approval_id, reason)
    render(document, json, lambda: out.print("Rejected."))
