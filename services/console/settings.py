"""What the console needs beyond what every service needs."""

from pathlib import Path

from pydantic import Field

from services.kit.settings import Settings

_HERE = Path(__file__).parent


class ConsoleSettings(Settings):
    """`FAIRLEAD_STREAMS` and the like override these."""

    max_body_bytes: int = 256 * 1024
    """Of the console's own paths; it reads them whole."""
    max_passed_bytes: int = 2 * 1024 * 1024 * 1024
    """Of what it passes on in pieces: the largest that a service takes."""
    assets: Path = _HERE / "node_modules"
    """Where the packages of `package-lock.json` are installed."""
    streams: int = Field(default=48, ge=1)
    """How many event streams may be open at once."""
