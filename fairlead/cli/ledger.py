"""Commands about the audit ledger."""

import typer

app = typer.Typer(help="The audit ledger: what was done, by whom, and the proof of it.", no_args_is_help=True)
