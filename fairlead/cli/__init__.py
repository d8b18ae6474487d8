"""The command line: `fairlead`, tables for people and `--json` for programs."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from . import catalog, decisions, endpoints, following, ledger, letters, operating, schedules, serving
from .output import out
from .session import Options

app = typer.Typer(
    name="fairlead",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (catalog.app, endpoints.app, decisions.app, operating.app, serving.app, following.app):
    app.add_typer(part)
app.add_typer(letters.app, name="dlq")
app.add_typer(ledger.app, name="audit")
app.add_typer(schedules.app, name="schedules")


def _version(asked: bool) -> None:
    if asked:
        try:
            out.print(f"fairlead {version('fairlead')}")
        except PackageNotFoundError:
            out.print("fairlead, from its sources")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="The platform's address [FAIRLEAD_URL].")] = None,
    home: Annotated[Path | None, typer.Option(help="The platform's home [FAIRLEAD_HOME].")] = None,
    acting_as: Annotated[
        str | None, typer.Option("--as", help="Whose token of the home to use [FAIRLEAD_AS]; default admin.")
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Deploy, watch, govern and improve models.

    Exit codes: 0 done, 1 refused, 2 wrong use, 3 the platform cannot be reached,
    4 not done within --wait and still under way.
    """
    context.obj = Options(url, home, acting_as)


def main() -> None:
    """The entry point of the `fairlead` command."""
    app()
