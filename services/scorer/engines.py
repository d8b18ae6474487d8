"""Loaded models as far as they are metered, and the clocks of threads and processes."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Engine(Protocol):
    """A loaded model, as far as it is metered."""

    @property
    def waiting(self) -> int:
        """Requests that are not answered yet."""
        ...

    @property
    def busy_s(self) -> float:
        """Seconds that it worked, by the clock."""
        ...

    @property
    def inline_s(self) -> float:
        """Of them those on the event loop."""
        ...

    @property
    def thread_cpu_s(self) -> float:
        """Processor time of other threads of this process, loading and what is under way included."""
        ...

    @property
    def outside_cpu_s(self) -> float:
        """Processor time of its own process."""
        ...

    @property
    def lowered(self) -> int:
        """How often fewer of its rows were taken on the event loop, because calls were slow."""
        ...

    @property
    def inside_bytes(self) -> int:
        """Memory of this process that it took."""
        ...

    @property
    def outside_bytes(self) -> int:
        """Memory of its own process."""
        ...

    @property
    def ended(self) -> bool:
        """It is closed, and its process told to end."""
        ...


class ThreadClock:
    """The processor time of work in threads, a piece at a time. What is under way counts: a call may last longer than
    the time between two looks."""

    def __init__(self) -> None:
        self._state: tuple[float, int | None, float] = 0.0, None, 0.0
        """What is done, and the clock of the thread under way with its beginning: read while a thread writes it, so
        replaced as a whole."""

    def run(self, work: Callable[[], T]) -> T:
        """Do it, in the thread that calls."""
        clock = time.pthread_getcpuclockid(threading.get_ident())
        done, started = self._state[0], time.clock_gettime(clock)
        self._state = done, clock, started
        try:
            return work()
        finally:
            self._state = done + time.clock_gettime(clock) - started, None, 0.0

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        done, clock, started = self._state
        if clock is None:
            return done
        try:
            return done + time.clock_gettime(clock) - started
        except OSError:  # the thread ended since
            return self._state[0]


def life_of(pid: int) -> str:
    """A process's number and the tick at which it started, as numbers come again in a container; empty: none."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return f"{pid}-{said.rpartition(')')[2].split()[19]}"  # the name before may hold blanks and brackets


def resident() -> int:
    """Bytes of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
