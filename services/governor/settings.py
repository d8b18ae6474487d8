"""What the governor can be told."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from services.kit.settings import Settings

_ROOM = Path(__file__).parent


class GovernorSettings(Settings):
    """Environment variables, with `FAIRLEAD_` before their names."""

    templates: Path = _ROOM / "templates"
    """Life cycles as BPMN files: `standard` for deployments, `retraining` after drift."""
    policies: Path = _ROOM / "policies"
    """CEL rules as YAML files, one for each gate of the templates."""
    grant_lasts_h: float = Field(default=24.0, gt=0, le=24 * 365)
    """Hours in which a rollout under a grant may start."""
    seal_rows: int = Field(default=100, ge=1)
    """A checkpoint is made at the latest after this many ledger records…"""
    seal_after_s: float = Field(default=2.0, gt=0)
    """…or this many seconds."""
    gap_alert_s: float = Field(default=60.0, gt=0)
    """How long a gap in a service's audit numbers may last before people are told."""
    console_url: str = ""
    """Where people reach the console, for links in messages; empty: its address on this machine."""
    alert_attempts: int = Field(default=20, ge=1, le=1000)
    """How often a message about alerts is tried before it has failed…"""
    alert_retry_s: float = Field(default=1.0, gt=0, le=300)
    """…and the first pause in between, doubled up to five minutes: an hour in all."""

    alertmanager_every_s: float = Field(default=60.0, ge=1, le=3600)
    """How often an Alertmanager is told again what is open: well within its `resolve_timeout`."""

    @field_validator("console_url")
    @classmethod
    def _is_page(cls, given: str) -> str:
        if given and not (urlsplit(given).scheme in ("http", "https") and urlsplit(given).netloc):
            raise ValueError("is not a URL such as https://fairlead.example")
        return given.rstrip("/")

    @property
    def console(self) -> str:
        """The beginning of every link to a page."""
        return self.console_url or self.url("console")

    @property
    def grant_lasts(self) -> timedelta:
        """How long a grant may start a rollout."""
        return timedelta(hours=self.grant_lasts_h)

    @property
    def checkpoints(self) -> Path:
        """The signed checkpoints, outside the database."""
        return self.home / "data" / "governor" / "checkpoints.jsonl"
