"""Commands about the audit ledger."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from fairlead import audit
from fairlead.errors import Invalid, Misconfigured

from .output import Exit, Json, err, out, refusals, render, show_table
from .pages import render_list
from .session import Options, client

app = typer.Typer(help="The audit ledger: what was done, by whom, and the proof of it.", no_args_is_help=True)


@app.command("list")
def list_(
    context: typer.Context,
    subject: Annotated[str | None, typer.Option(help="Only about this model, endpoint or other subject.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by this person or service.")] = None,
    since: Annotated[str | None, typer.Option(help="Only since this time (ISO 8601).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """List what was done."""
    with refusals():
        page = client(context).audit(subject=subject, actor=actor, since=since, limit=limit)
    render_list(page, json, lambda: show_table(
        ["Position", "At", "Action", "Subject", "By", "Unit", "Service"],
        (
            [r["position"], r["at"][:19], r["action"], r["subject"], r["actor"], r["unit"], r["service"]]
            for r in page.items
        ),
        "Nothing that matches was done yet.",
        right=["Position"],
    ))  # fmt: skip


@app.command()
def verify(
    context: typer.Context,
    records: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="An exported ledger.")] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Checkpoints kept apart.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="The governor's public keys.")] = None,
    json: Json = False,
) -> None:
    """Verify the ledger on this machine, without trusting the service that keeps it.

    Without files the ledger is fetched from the platform. The keys come from here in any case: from --keys,
    or from the platform's home.
    """
    with refusals(), err.status("Verifying …"):
        given, seals = _fetched(context) if records is None else (audit.lines(records), _lines(checkpoints))
        try:
            report = audit.verify(given, seals, audit.keys_in(keys or _keys(context)))
        except ValueError as error:
            raise Invalid(str(error), field="records") from error
    render(_told(report), json, lambda: _report(report))
    if not report.ok:
        raise typer.Exit(Exit.REFUSED)


def _fetched(context: typer.Context) -> tuple[Iterable[Mapping[str, Any]], Iterable[Mapping[str, Any]]]:
    records, checkpoints = client(context).export_audit()
    return tuple([orjson.loads(line) for line in text.splitlines()] for text in (records, checkpoints))  # pyright: ignore[reportReturnType]


def _lines(checkpoints: Path | None) -> Iterable[Mapping[str, Any]]:
    if checkpoints is None:
        raise Misconfigured("give --checkpoints with --records: the seals have to come from somewhere else")
    return audit.lines(checkpoints)


def _keys(context: typer.Context) -> Path:
    options = context.find_object(Options) or Options()
    folder = Path(options.home or os.environ.get("FAIRLEAD_HOME") or ".fairlead") / "keys" / "public"
    if not folder.is_dir():
        raise Misconfigured(f"no public keys: {folder} is not there; give --keys")
    return folder


def _told(report: audit.Report) -> dict[str, Any]:
    findings = [{"position": f.position, "kind": f.kind, "message": f.message} for f in report.findings]
    sealed = {"records": report.records, "checkpoints": report.checkpoints, "sealed_to": report.sealed_to}
    return {"ok": report.ok, **sealed, "findings": findings}


def _report(report: audit.Report) -> None:
    if first := report.first:
        out.print(f"[red]NOT as sealed[/red], from record {first.position}: {first.message}")
        return
    out.print(
        f"[green]{report.records} records are as sealed[/green], {report.sealed_to} of them under "
        f"{report.checkpoints} signed checkpoints{report.tail}."
    )
