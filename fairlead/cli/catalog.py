"""Commands about models: register, list, show, lineage, retire."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fairlead.answers import ModelVersion

from .output import Json, err, named, out, refusals, render, show_facts, show_json, show_table
from .pages import render_list, whole
from .session import client

app = typer.Typer()

Model = Annotated[str, typer.Argument(help="The model's name.")]
Version = Annotated[int, typer.Option("--version", "-v", min=1, help="The version, from 1.")]
_MARKS = ("nullable", "sensitive", "protected", "segment")


@app.command()
def register(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(exists=True, help="A model file, a package, or a folder with fairlead.yaml or MLmodel.")
    ],
    name: Annotated[str | None, typer.Option(help="The model's name; a package may carry its own.")] = None,
    unit: Annotated[str | None, typer.Option(help="The business unit that owns it.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be given several times.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="A further field as name=value, such as label=employed.")
    ] = None,
    json: Json = False,
) -> None:
    """Register a model: it is stored by digest, scanned and profiled."""
    fields: dict[str, Any] = {**named(field, beside=("path", "name", "unit", "tags"))}
    with refusals(), err.status("Uploading, scanning and profiling …"):
        version = client(context).register(path, name, unit=unit, tags=tag or None, **fields)
    render(version, json, lambda: _registered(version))


def _registered(version: ModelVersion) -> None:
    out.print(f"Registered [bold]{version.model}[/bold] version {version.version}.")
    show_facts({"state": version.state, "digest": version.digest})


@app.command()
def models(
    context: typer.Context,
    query: Annotated[str | None, typer.Argument(help="Words to look for.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only models with this tag.")] = None,
    state: Annotated[str | None, typer.Option(help="Only models in this state.")] = None,
    json: Json = False,
) -> None:
    """List the models that you may see."""
    with refusals():
        fl = client(context)
        page = whole(lambda cursor: fl.models(query, tag=tag, state=state, cursor=cursor))
    render_list(page, json, lambda: show_table(
        ["Model", "Latest", "State", "Unit", "Tags"],
        ([m.model, m.latest_version, m.state, m.unit, m.tags] for m in page.items),
        "No models yet. Register one: fairlead register model.onnx --name credit",
        right=["Latest"],
    ))  # fmt: skip


@app.command()
def show(
    context: typer.Context,
    model: Model,
    version: Annotated[int | None, typer.Option("--version", "-v", min=1, help="One version of it.")] = None,
    json: Json = False,
) -> None:
    """Show a model with its versions, or one version with its schema and scan."""
    with refusals():
        document = client(context).show(model, version)
    render(document, json, lambda: _version(document) if version else _model(document))


def _model(document: dict[str, Any]) -> None:
    show_facts({name: value for name, value in document.items() if not isinstance(value, list | dict)})
    out.print()
    show_table(
        ["Version", "State", "Format", "Scan", "Metrics", "Registered by"],
        (
            [v["version"], v.get("state"), v.get("format"), (v.get("scan") or {}).get("verdict"),
             (v.get("training") or {}).get("metrics"), v.get("registered_by")]
            for v in document.get("versions", [])
        ),
        "It has no version.",
        right=["Version"],
    )  # fmt: skip


def _version(document: dict[str, Any]) -> None:
    schema = document.get("model_schema") or {}
    flat = {name: value for name, value in document.items() if not isinstance(value, dict)}
    scan = document.get("scan") or {}
    show_facts(flat | {"scan": scan.get("verdict"), "findings": scan.get("findings"),
                       "not looked at": scan.get("not_looked_at")})  # fmt: skip
    show_facts((document.get("training") or {}).get("metrics") or {})
    columns = schema.get("columns") or []
    show_table(
        ["Column", "Kind", "Range", "Marks"],
        ([c["name"], c["kind"], _range(c), [m for m in _MARKS if c.get(m)]] for c in columns),
        "Its schema names no columns.",
    )


def _range(column: dict[str, Any]) -> Any:
    if column.get("categories"):
        return [each if isinstance(each, str) else f"{each:g}" for each in column["categories"]]
    low, high = column.get("minimum"), column.get("maximum")
    return (
        None
        if low is None and high is None
        else f"{low:g} … {high:g}"
        if None not in (low, high)
        else f"{low} … {high}"
    )


@app.command()
def lineage(context: typer.Context, model: Model, version: Version, json: Json = False) -> None:
    """Show where a version came from and where it went."""
    with refusals():
        document = client(context).lineage(model, version)
    if json or "edges" not in document:
        show_json(document)
        return
    show_table(
        ["From", "How", "To"],
        ([e.get("source"), e.get("kind"), e.get("target")] for e in document["edges"]),
        "Nothing is known of its origin or its use yet.",
    )


@app.command()
def retire(
    context: typer.Context,
    model: Model,
    version: Version,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; it is audited.")],
    json: Json = False,
) -> None:
    """Take a version out of service for good."""
    with refusals():
        document = client(context).retire(model, version, reason)
    render(document, json, lambda: out.print(f"Retired {model} version {version}."))
