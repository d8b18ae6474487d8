"""What the launcher keeps alive: one process, how it starts, when it is ready, how it ends."""

import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypedDict


@dataclass(frozen=True)
class Part:
    """A process of the platform."""

    name: str
    argv: tuple[str, ...]
    log: Path
    ready: Callable[[int], bool]
    """One quick look at the process with this pid; may block for a second, raises nothing."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    address: str = ""
    folder: Path = Path("/")
    """The working directory."""
    before: Callable[[], None] = lambda: None
    """Done before each start."""
    uid: int | None = None
    """Run as this user instead of the launcher's."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 20

    @property
    def fingerprint(self) -> str:
        """Changes when the process would be started differently; a shell's own variables say nothing."""
        ours = [f"{name}={value}" for name, value in sorted(self.environment.items()) if name.startswith("FAIRLEAD_")]
        told = [*self.argv, *ours]
        return sha256("\0".join(told).encode()).hexdigest()[:16]


def listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


class UserArguments(TypedDict, total=False):
    """Arguments of Popen."""

    user: int
    group: int
    extra_groups: list[int]


def as_user(uid: int | None) -> UserArguments:
    """Arguments of Popen for another user, without any group of ours: a group's rights would hide everybody's."""
    return {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
