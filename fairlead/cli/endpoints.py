"""Commands about what runs where: deploy, rollback, approvals."""

from enum import StrEnum
from typing import Annotated

import typer

from fairlead.answers import Approval

from .following import finish_deployment, until_settled
from .output import Json, out, refusals, render, show_table
from .session import client

app = typer.Typer()

Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.")]
ApprovalId = Annotated[str, typer.Argument(help="The approval's id.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it is signed and audited.")]


class ApprovalState(StrEnum):
    """What a list of approvals can be narrowed to."""

    PENDING = "pending"
    GRANTED = "granted"
    REJECTED = "rejected"
    REVOKED = "revoked"
    ALL = "all"


@app.command()
def deploy(
    context: typer.Context,
    endpoint: Endpoint,
    use_case: Annotated[str, typer.Option("--use-case", "-u", help="The use case that it serves.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The model.")],
    version: Annotated[int, typer.Option("--version", "-v", min=1, help="The version, from 1.")],
    streaming: Annotated[bool, typer.Option(help="Also score events of a topic.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it serves; 0: do not wait.")] = 0.0,
    json: Json = False,
) -> None:
    """Ask for a version behind an endpoint; a second person grants it."""
    with refusals():
        fl = client(context)
        asked = fl.deploy(endpoint, use_case=use_case, model=model, version=version, streaming=streaming)
        deployment = until_settled(asked, fl.deployment, wait)
    finish_deployment(deployment, wait, json)


@app.command()
def rollback(context: typer.Context, endpoint: Endpoint, json: Json = False) -> None:
    """Go back to what an endpoint served before."""
    with refusals():
        found = client(context).rollback(endpoint)
    render(found, json, lambda: out.print(f"{endpoint} goes back to {found.model} version {found.version}."))


@app.command()
def approvals(
    context: typer.Context,
    state: Annotated[ApprovalState, typer.Option(help="Only approvals in this state.")] = ApprovalState.PENDING,
    json: Json = False,
) -> None:
    """List what waits for a decision."""
    with refusals():
        page = client(context).approvals(None if state is ApprovalState.ALL else state.value)
    render(page, json, lambda: show_table(
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
