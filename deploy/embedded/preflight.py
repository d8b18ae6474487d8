"""What must be right before anything starts: room, rights, tools, ports."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import psutil
from pydantic import ValidationError

from services.kit.settings import Settings, faults

from . import jvm, postgres
from .home import Home
from .plan import Outside, port_taken
from .problem import Problem

_ROOM_BYTES = 512 * 1024 * 1024


class Port(NamedTuple):
    number: int
    owner: str


def check_home(home: Home) -> None:
    """Raises Problem where the home cannot be written or has no room."""
    try:
        home.make_folders()
    except OSError as error:
        raise Problem(
            f"the home {home.path} cannot be made: {error.strerror}",
            "Set FAIRLEAD_HOME to a folder that you may write, on a disk with room.",
        ) from None
    if not os.access(home.path, os.W_OK):
        raise Problem(f"the home {home.path} cannot be written", "Set FAIRLEAD_HOME to a folder that you may write.")
    if why := no_room(home):
        raise Problem(why, "Free some room, or set FAIRLEAD_HOME to a folder on another disk.")


def no_room(home: Home) -> str:
    """That the home's disk is too full for a start; empty where it is not."""
    free = shutil.disk_usage(home.path).free
    if free >= _ROOM_BYTES:
        return ""
    return f"the disk of {home.path} is full: {free // 2**20} MiB are free, the platform needs {_ROOM_BYTES // 2**20}"


def check_settings() -> None:
    """Raises Problem where a variable that every service reads is not valid: each would end as soon as it starts."""
    try:
        Settings()
    except ValidationError as error:
        raise Problem(
            "; ".join(faults(error)), "Correct it, or unset it: docs/operations.md says what it means."
        ) from None


def check_tools(outside: Outside) -> None:
    """Raises Problem where a program of our own packages is missing."""
    if outside.kafka is None:
        jvm.java()
    if outside.database is None and not os.access(postgres.binaries() / "postgres", os.X_OK):
        raise Problem(f"the PostgreSQL at {postgres.binaries()} cannot be run", "Remove .venv and run `make up` again.")


def check_ports(ports: Iterable[Port]) -> None:
    """Raises Problem for the ports that somebody else has."""
    taken = [port for port in ports if port_taken(port.number)]
    if not taken:
        return
    told = [f"port {port.number} ({port.owner}) is in use{_by_whom(port.number)}" for port in taken]
    raise Problem("; ".join(told), "End what uses it, or choose other ports: FAIRLEAD_PORT=9080 make up")


def _by_whom(port: int) -> str:
    """The listener on a port, as far as we may see."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and tuple(connection.laddr)[1:] == (port,) and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
