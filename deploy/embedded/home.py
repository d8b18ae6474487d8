"""Where everything of one installation lives: its folders and its ports."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts import SERVICES, Service
from services.kit.settings import PORT_ORDER

from .problem import Problem

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds this program."""

KAFKA_OFFSET, CONTROLLER_OFFSET, POSTGRES_OFFSET = 10, 11, 12
LAST_PORT = 65535 - POSTGRES_OFFSET
_LONGEST_PATH = 900  # PostgreSQL's is 1024, with its own files' names


@dataclass(frozen=True)
class Home:
    """One installation: `FAIRLEAD_HOME` and `FAIRLEAD_PORT`."""

    path: Path
    port: int = 8080

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Home":
        """The home that the environment names. Raises Problem for one that cannot be used."""
        text = environment.get("FAIRLEAD_PORT") or "8080"
        if not text.isdecimal() or not 1 <= int(text) <= LAST_PORT:
            raise Problem(f"FAIRLEAD_PORT={text} is not a port", f"Give a number from 1 to {LAST_PORT}.")
        path = Path(environment.get("FAIRLEAD_HOME") or ".fairlead").absolute()
        if why := _unfit(str(path)):
            raise Problem(f"the home {str(path)[:200]!r} cannot be used: {why}", "Set FAIRLEAD_HOME to another folder.")
        return cls(path, int(text))

    def port_of(self, service: Service) -> int:
        return self.port + PORT_ORDER.index(service)

    def url(self, service: Service) -> str:
        return f"http://127.0.0.1:{self.port_of(service)}"

    @property
    def kafka_port(self) -> int:
        return self.port + KAFKA_OFFSET

    @property
    def controller_port(self) -> int:
        return self.port + CONTROLLER_OFFSET

    @property
    def postgres_port(self) -> int:
        return self.port + POSTGRES_OFFSET

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def endpoints(self) -> Path:
        return self.path / "endpoints.json"

    def client_properties(self, principal: str) -> Path:
        """Kafka client properties of a principal: outsiders' beside the tokens, services' among the secrets."""
        folder = self.secrets if principal in (*SERVICES, "launcher", "administrator") else self.path
        return folder / "kafka" / f"{principal}.properties"

    def make_folders(self) -> None:
        """Create what is missing, and close it to everybody else; PostgreSQL's own user may pass where it could."""
        for name in _FOLDERS:
            folder = self.path / name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(folder.stat().st_mode & 0o711)


_FOLDERS = (
    "data", "objects", "spool", "run", "logs", "tokens", "kafka", "secrets", "secrets/kafka", "secrets/tokens", "keys",
    "keys/public",
)  # fmt: skip


def _unfit(path: str) -> str:
    """Why Kafka or PostgreSQL could not keep their data there; empty where they could."""
    if len(path.encode(errors="replace")) > _LONGEST_PATH or any(len(os.fsencode(n)) > 255 for n in path.split("/")):
        return "its path is too long"
    if "," in path:
        return "its path has a comma, which separates folders for Kafka"
    return "" if path.isprintable() else "its path has a character that cannot be printed"


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner alone."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    write_private(path, json.dumps(value, indent=1) + "\n")
