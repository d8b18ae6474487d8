"""What the launcher knows, on disk: for `status`, for `down`, and for the next launcher after a kill -9."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

from .home import Home, write_json
from .problem import Problem

Phase = Literal["starting", "ready", "stopping", "failed", "stopped"]
PartState = Literal["starting", "ready", "restarting", "stopped", "external"]


@dataclass
class PartRecord:
    """One part as it stands."""

    state: PartState = "starting"
    pid: int = 0
    born: int = 0
    since: str = ""
    restarts: int = 0
    address: str = ""
    fingerprint: str = ""


@dataclass
class State:
    """The platform as it stands."""

    port: int
    launcher: int = 0
    phase: Phase = "starting"
    step: str = ""
    since: str = field(default_factory=lambda: timestamp())
    problem: tuple[str, str] | None = None
    parts: dict[str, PartRecord] = field(default_factory=dict[str, PartRecord])

    def save(self, home: Home) -> None:
        write_json(home.run / "state.json", asdict(self))


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read(home: Home) -> State | None:
    """The last state that was written; None where there is none or it cannot be read."""
    try:
        told = json.loads((home.run / "state.json").read_text())
        parts = {name: PartRecord(**record) for name, record in told.pop("parts").items()}
        problem = told.pop("problem")
        return State(**told, problem=tuple(problem) if problem else None, parts=parts)
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextmanager
def launcher_lock(home: Home) -> Iterator[None]:
    """Held by the one launcher of a home for its life; the kernel lets go when it dies. Raises Problem."""
    descriptor = os.open(home.run / "launcher.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Problem(f"a launcher of {home.path} is running", "`make status` shows it.") from None
        yield
    finally:
        os.close(descriptor)


def launcher_runs(home: Home) -> bool:
    """Whether a launcher of this home is alive."""
    if not (home.run / "launcher.lock").exists():
        return False
    try:
        with launcher_lock(home):
            return False
    except Problem:
        return True
