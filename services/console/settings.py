"""What the console needs beyond what every service needs."""

from pathlib import Path

from pydantic import Field

from services.kit.settings import Settings

_HERE = Path(__file__).parent


class ConsoleSettings(Settings):
    """The console passes bodies on to other services, so its cap is the largest of theirs."""

    max_body_bytes: int = 2 * 1024 * 1024 * 1024
    assets: Path = _HERE / "node_modules"
    """Where the packages of `package-lock.json` are installed."""
    streams: int = Field(48, ge=1)
    """How many event streams may be open at once."""
