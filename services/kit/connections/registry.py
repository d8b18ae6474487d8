"""The file of the connections, and who may use which."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from .. import plain_yaml
from ..errors import Invalid, Unavailable
from ..settings import Settings
from ..strict import refused
from ..telemetry import get_logger
from .kinds import HttpsConnection, ObjectsConnection
from .mail import SmtpConnection

log = get_logger(__name__)

_Connection = HttpsConnection | ObjectsConnection | SmtpConnection
_ONE: TypeAdapter[_Connection] = TypeAdapter(Annotated[_Connection, Field(discriminator="kind")])
_C = TypeVar("_C", HttpsConnection, ObjectsConnection, SmtpConnection)
_CALLED: Mapping[type[_Connection], str] = {
    HttpsConnection: "server", ObjectsConnection: "object store", SmtpConnection: "mail server",
}  # fmt: skip


class Connections:
    """What the file says, read again when it changes: a connection that is taken out is gone at once."""

    def __init__(self, path: Path, folder: Path) -> None:
        """`folder`: those on this machine lie below it."""
        self._path, self._folder = path, folder
        self._state: tuple[int, ...] | None = None
        self._read: dict[str, _Connection | str] = {}

    @classmethod
    def of(cls, settings: Settings) -> "Connections":
        """Those of this installation."""
        return cls(settings.connections_path, settings.connections_folder_path)

    def https(self, name: str, unit: str) -> HttpsConnection:
        """A server that a business unit may call. Raises Invalid where there is none, Unavailable for a wrong entry."""
        return self._find(name, unit, HttpsConnection)

    def objects(self, name: str, unit: str) -> ObjectsConnection:
        """An object store that a business unit may use. Raises as `https`."""
        return self._find(name, unit, ObjectsConnection)

    def smtp(self, name: str, unit: str) -> SmtpConnection:
        """A mail server that a business unit may use. Raises as `https`."""
        return self._find(name, unit, SmtpConnection)

    def _find(self, name: str, unit: str, kind: type[_C]) -> _C:
        self._refresh()
        found = self._read.get(name)
        if isinstance(found, str):
            raise Unavailable(f"connection {name}: {found}")
        # Another unit's connection is answered as one that is not there.
        if not isinstance(found, kind) or not found.serves(unit):
            raise Invalid(f"connection: no {_CALLED[kind]} {name[:80]} is approved for unit {unit}", "connection")
        return found

    def _refresh(self) -> None:
        """Read the file where it changed. Raises Unavailable at the first time where it cannot be read; later what
        was there last stays, since somebody may be writing it."""
        state = _state(self._path)
        if state == self._state:
            return
        try:
            self._read = _read(self._path.read_bytes(), self._folder) if state else {}
        except (OSError, plain_yaml.BadYaml, Invalid) as error:
            if self._state is None:
                raise Unavailable(f"{self._path.name}: {error}") from None
            log.error("the connections cannot be read; those before stay", file=str(self._path), reason=str(error))
        self._state = state
        for name, one in self._read.items():
            if isinstance(one, str):
                log.error("a connection is not taken", connection=name, reason=one)


def _read(data: bytes, folder: Path) -> dict[str, _Connection | str]:
    """Each connection by its name, or what is wrong with it: one entry's error is no other's.

    Raises BadYaml and Invalid where the file as a whole cannot be read.
    """
    said = plain_yaml.load(data)
    entries = said.get("connections") if isinstance(said, dict) and set(said) == {"connections"} else None
    if not isinstance(entries, list):
        raise Invalid("connections: the file is a mapping with one member, `connections`, which is a list")
    found: dict[str, _Connection | str] = {}
    for place, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise Invalid(f"connections.{place}: has no name")
        found[name] = "name: is there twice" if name in found else _one(entry, folder)
    return found


def _one(entry: Mapping[str, Any], folder: Path) -> _Connection | str:
    try:
        made = _ONE.validate_python(entry)
    except ValidationError as error:
        return refused(error.errors(include_url=False, include_input=False), entry, "kind").message
    place = made.folder() if isinstance(made, ObjectsConnection) else None
    if place and not place.resolve().is_relative_to(folder.resolve()):
        return f"url: {place} is not below {folder} (FAIRLEAD_CONNECTIONS_FOLDER)"
    # As it is now: links that the administrator made are followed here, and none later.
    return made.model_copy(update={"url": place.resolve().as_uri()}) if place else made


def _state(path: Path) -> tuple[int, ...]:
    """What changes when the file does; empty where there is none."""
    try:
        seen = path.stat()
    except FileNotFoundError:
        return ()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino
