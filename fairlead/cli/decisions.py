"""Commands about inferences: score, batch, outcomes, decision, erase."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fairlead.answers import Explanation, Scores

from . import files
from .following import finish_batch, scored
from .output import Json, err, out, refusals, render, show_facts, show_table
from .pages import render_list
from .session import client

app = typer.Typer()

Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.")]
Version = Annotated[int | None, typer.Option("--version", "-v", min=1, help="A version that the endpoint holds.")]


@app.command()
def score(
    context: typer.Context,
    endpoint: Endpoint,
    rows: Annotated[
        str, typer.Argument(help="A JSON object or array of objects, a .json or .csv file, or - for stdin.")
    ],
    entity: Annotated[str | None, typer.Option(help="What is decided about, for example a customer's number.")] = None,
    version: Version = None,
    json: Json = False,
) -> None:
    """Score rows at an endpoint."""
    with refusals():
        scores = client(context).score(endpoint, files.rows(rows), entity=entity, version=version)
    render(scores, json, lambda: _scores(scores))


def _scores(scores: Scores) -> None:
    show_facts({"endpoint": f"{scores.endpoint} v{scores.version}", "inference": scores.inference_id})
    out.print()
    rows = ([number, *values] for number, values in enumerate(zip(*scores.outputs.values(), strict=False)))
    show_table(["Row", *scores.outputs], rows, "The endpoint answered without rows.", right=["Row"])


@app.command()
def batch(
    context: typer.Context,
    endpoint: Endpoint,
    path: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="A file of rows: Parquet, CSV, JSON Lines or Arrow."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Instead of a file: connection/path in an approved object store.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Write the result to connection/path too; its ending says the format.")
    ] = None,
    version: Version = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it is scored; 0: do not wait.")] = 600.0,
    json: Json = False,
) -> None:
    """Score a file of rows."""
    if (path is None) == (source is None) or (to and path):
        raise typer.BadParameter("name a file, or --from connection/path (with --to, if you like)")
    with refusals():
        fl = client(context)
        if path:
            started = fl.batch(endpoint, path, version=version)
        else:
            started = fl.batch_from(endpoint, str(source), output=to, version=version)
        done = scored(fl, started, wait) if wait else started
    finish_batch(done, wait, json)


@app.command()
def cancel_batch(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="The batch's id.")],
    json: Json = False,
) -> None:
    """Score no more rows of a batch. What was decided stays."""
    with refusals():
        found = client(context).cancel_batch(id)
    render(found, json, lambda: show_facts(found.model_dump(mode="json")))


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
        document = client(context).outcomes(files.outcomes(path))
    render(document, json, lambda: show_facts(document))


@app.command()
def decision(
    context: typer.Context,
    inference_id: Annotated[str, typer.Argument(help="The id that the scoring answer carried.")],
    row: Annotated[int, typer.Option(min=0, help="From which of its rows on; a thousand are told.")] = 0,
    json: Json = False,
) -> None:
    """Look a decision up: what was asked and decided, by which version, what followed."""
    with refusals():
        found = client(context).decision(inference_id, row=row)
    render(found, json, lambda: _decision(found.model_dump(mode="json")))


@app.command()
def decisions(
    context: typer.Context,
    entity: Annotated[str | None, typer.Option(help="About whom or what.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Behind which endpoint.")] = None,
    use_case: Annotated[str | None, typer.Option(help="For which use case.")] = None,
    version: Annotated[int | None, typer.Option("--version", "-v", min=1, help="By which version.")] = None,
    outcome: Annotated[str | None, typer.Option(help="known or unknown.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest.")] = 50,
    json: Json = False,
) -> None:
    """List decisions, the newest first: which version decided, why, and what followed."""
    given = {"entity": entity, "endpoint": endpoint, "use_case": use_case, "version": version, "outcome": outcome}
    with refusals():
        asked = {name: value for name, value in given.items() if value is not None}
        found = client(context).decisions(limit=limit, **asked)
    render_list(found, json, lambda: _listed([each.model_dump(mode="json") for each in found.items]))


def _listed(documents: list[dict[str, Any]]) -> None:
    rows = (
        [d["inference_id"], d.get("received_at"), f"{d['endpoint']} v{d['version']}", d.get("variant"), d.get("mode"),
         d.get("entity"), ", ".join(str(o.get("label")) for o in d.get("outcomes") or ())]
        for d in documents
    )  # fmt: skip
    headings = ["Inference", "When", "By", "Variant", "Mode", "Entity", "Outcomes"]
    show_table(headings, rows, "Nothing was decided so.")


@app.command()
def erase(
    context: typer.Context,
    entity: Annotated[str, typer.Argument(help="Whom to forget.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept for good and may not name the entity.")],
    use_case: Annotated[str | None, typer.Option(help="Only what was decided for this use case.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it is done; 0: do not wait.")] = 60.0,
    json: Json = False,
) -> None:
    """Erase what was decided about an entity until now, with what followed from it."""
    with refusals(), err.status("Erasing …"):
        fl = client(context)
        asked = fl.erase(entity, reason, use_case=use_case)
        found = fl.erasure(asked.id, wait=wait) if wait else asked
    render(found, json, lambda: _erasure(found.model_dump(mode="json")))


def _erasure(document: dict[str, Any]) -> None:
    elsewhere = document.pop("elsewhere", ())
    show_facts(document)
    out.print("\n[bold]Elsewhere[/bold]")
    show_table(["What", "Where", "Gone by", "How"], [[e["what"], e["where"], e["by"], e["how"]] for e in elsewhere], "")


@app.command()
def explain(
    context: typer.Context,
    inference_id: Annotated[str, typer.Argument(help="The id that the scoring answer carried.")],
    row: Annotated[int, typer.Option(min=0, help="Which row of the decision, from 0.")] = 0,
    immutable: Annotated[list[str] | None, typer.Option(help="A column that may not change; several times.")] = None,
    decision: Annotated[str | None, typer.Option(help="Another decision of the model: why not this one.")] = None,
    json: Json = False,
) -> None:
    """Explain a decision: what each column contributed, and what would have turned it."""
    with refusals(), err.status("Asking the model …"):
        found = client(context).explain(inference_id, row=row, immutable=immutable or (), decision=decision)
    render(found, json, lambda: _explanation(found))


def _explanation(found: Explanation) -> None:
    out.print(f"[bold]{found.decided}[/bold] by {found.model} version {found.version} ({found.method}, {found.scale})")
    if found.explained not in (None, found.decided):
        out.print(f"what speaks for [bold]{found.explained}[/bold] instead:")
    show_table(
        ["Column", "Value", f"Contribution to {found.output}"],
        [["(mean of the reference rows)", None, f"{found.base:+.4f}"]]
        + [[each["column"], each["value"], _share(each)] for each in found.contributions],
        "",
        right=["Value", f"Contribution to {found.output}"],
    )
    if found.counterfactual is None:
        out.print(f"\nNothing is known that would turn it: {found.no_counterfactual}.")
        return
    out.print(f"\nIt would have been [bold]{found.counterfactual_decides}[/bold] with")
    steps = [[each["column"], each["value"], each["instead"]] for each in found.counterfactual]
    show_table(["Column", "Value", "Instead"], steps, "", right=["Value", "Instead"])


def _share(contribution: dict[str, Any]) -> str:
    error = contribution["error"]
    return f"{contribution['contribution']:+.4f}" + (f" ± {1.96 * error:.4f}" if error is not None else "")


_NO_OUTCOME = "Nothing was reported of it yet: fairlead outcomes"


def _decision(document: dict[str, Any]) -> None:
    show_facts({name: value for name, value in document.items() if not isinstance(value, dict | list)})
    out.print("\n[bold]Decided[/bold]")
    show_table(
        ["Row", "Prediction", "Score", "From"],
        ([r.get("row"), r.get("prediction"), r.get("score"), r.get("features")] for r in document.get("decided") or ()),
        "Its rows are not kept any more.",
        right=["Row"],
    )
    out.print("\n[bold]Outcomes[/bold]")
    show_table(
        ["Row", "Label", "Value", "Reported by", "When"],
        (
            [o.get("row"), o.get("label"), o.get("value"), o.get("reported_by"), o.get("reported_at")]
            for o in document.get("outcomes") or ()
        ),
        "Nothing was reported of these rows." if document.get("observed") else _NO_OUTCOME,
        right=["Row"],
    )
