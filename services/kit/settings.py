"""Typed settings from the environment; every service extends `Settings`."""

import logging
import sys
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts import Service

from .runtimes import runtimes

PORT_ORDER: tuple[Service, ...] = (
    "console", "catalog", "deployer", "scorer", "monitor", "governor", "retrainer", "recorder",
)  # fmt: skip


class Settings(BaseSettings):
    """What every service needs to know. `.env` files are not read: the launcher or the cluster sets these."""

    model_config = SettingsConfigDict(env_prefix="FAIRLEAD_", extra="ignore")

    home: Path = Path(".fairlead")
    port: int = Field(default=8080, ge=1, le=65535 - len(PORT_ORDER) + 1)
    host: str = "127.0.0.1"
    kafka_properties: Path = Path("/nonexistent")
    """Client properties of this service's own principal, as librdkafka and Java take them."""
    service_database: str = ""
    """The URL of this service's own role."""
    objects: str = ""
    """Object store URL; empty: a folder in the home."""
    issuer: str = ""
    """OIDC issuer; empty: the embedded one, whose keys are in the home."""
    allow_embedded_issuer: bool = False
    """Let the embedded issuer vouch for people though Kafka or PostgreSQL are elsewhere: for trials."""
    connections: Path | None = None
    """The file of the connections; none: `connections.yaml` in the home."""
    connections_folder: Path | None = None
    """Connections to folders of this machine lie below it; none: `shared` in the home."""
    runtimes: str = ""
    """What may run models that are programs: `node=/usr/bin/node,java=/opt/java/bin/java[:/more/folders]`."""
    log_level: str = "INFO"
    max_body_bytes: int = 16 * 1024 * 1024
    # How long rows are kept: whoever erases somebody says what the others hold, and until when.
    decisions_kept_days: int = Field(default=365, ge=1)
    """Decisions, their files and their explanations older than this are removed."""
    windows_kept_days: int = Field(default=30, ge=1)
    """The monitor's closed windows older than this go, with their reports; so does what versions used."""
    spool_turns_s: float = Field(default=3600.0, gt=0)
    """How long a segment of a scorer's spool grows: it is deleted as a whole, when Kafka has all of it."""
    environment_bytes: int = 12 * 1024**3
    """The most that the libraries of one model may take on disk."""
    environments_bytes: int = 40 * 1024**3
    """Libraries that no model used for a day stay up to this; the longest unused go first."""
    environment_s: float = Field(default=900.0, gt=0)
    """How long libraries may take to be found, and to be installed."""

    @field_validator("log_level")
    @classmethod
    def _known(cls, given: str) -> str:
        if given.upper() not in (levels := logging.getLevelNamesMapping()):
            raise ValueError(f"is none of {', '.join(levels)}")
        return given.upper()

    @field_validator("runtimes")
    @classmethod
    def _are_programs(cls, given: str) -> str:
        runtimes(given)
        return given

    @field_validator("objects")
    @classmethod
    def _is_url(cls, given: str) -> str:
        if given and not urlsplit(given).scheme:
            raise ValueError("is not a URL such as s3://bucket/folder or file:///folder")
        return given

    @field_validator("issuer")
    @classmethod
    def _is_address(cls, given: str) -> str:
        if given and not (urlsplit(given).scheme in ("http", "https") and urlsplit(given).netloc):
            raise ValueError("is not a URL such as https://login.example")
        return given

    def listen_port(self, service: Service) -> int:
        """Services follow `FAIRLEAD_PORT` in a fixed order, the console first."""
        return self.port + PORT_ORDER.index(service)

    def url(self, service: Service) -> str:
        return f"http://{self.host}:{self.listen_port(service)}"

    @property
    def objects_url(self) -> str:
        return self.objects or (self.home.absolute() / "objects").as_uri()

    @property
    def connections_path(self) -> Path:
        return self.connections or self.home / "connections.yaml"

    @property
    def connections_folder_path(self) -> Path:
        return self.connections_folder or self.home / "shared"

    @property
    def keys(self) -> Path:
        return self.home / "keys"


S = TypeVar("S", bound=Settings)


def from_environment(kind: type[S]) -> S:
    """The settings of a process. Ends it where one is not valid, with the variable and what is wrong with it."""
    try:
        return kind()  # pydantic-settings fills it from the environment
    except ValidationError as error:
        sys.exit(f"error: {'; '.join(faults(error))}")


def faults(error: ValidationError) -> list[str]:
    """Each variable that is not valid, in a sentence."""
    return [_fault(each["loc"], str(each["input"]), each["msg"]) for each in error.errors(include_url=False)]


def _fault(place: tuple[int | str, ...], given: str, message: str) -> str:
    name = "_".join(map(str, place)).upper()
    return f"FAIRLEAD_{name}={given[:100]}: {message.removeprefix('Value error, ')}"
