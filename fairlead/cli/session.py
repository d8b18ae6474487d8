"""The client that a command talks through, set up from the options before the command's name."""

from dataclasses import dataclass
from pathlib import Path

import typer

from fairlead.client import Fairlead


@dataclass(frozen=True)
class Options:
    """Where the platform is and who asks, as far as the command line says it."""

    url: str | None = None
    home: Path | None = None
    acting_as: str | None = None


def client(context: typer.Context) -> Fairlead:
    """The client for this command. Raises `Misconfigured` when no platform is named."""
    options = context.find_object(Options) or Options()
    return context.with_resource(Fairlead(options.url, home=options.home, acting_as=options.acting_as))
