"""The ends of pipes and sockets between a parent and a process that it starts: none is left when the start fails."""

import io
import os
import socket
from collections.abc import Awaitable
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class Ends:
    """Closes at its exit what is ours and no transport has taken, and what is the process's own at its start."""

    def __init__(self) -> None:
        self._ours: list[io.FileIO | socket.socket] = []
        self._its = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.started()
        for each in self._ours:
            each.close()

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """Two that talk with one another: ours, and the process's."""
        ours, its = socket.socketpair()
        self._ours.append(ours)
        self._its.callback(its.close)
        return ours, its

    def from_it(self) -> tuple[io.FileIO, int]:
        """A pipe that the process writes into: our end, and its."""
        ours, its = os.pipe()
        return self._pipe(ours, its, "rb"), its

    def to_it(self) -> tuple[io.FileIO, int]:
        """A pipe that the process reads: our end, and its."""
        its, ours = os.pipe()
        return self._pipe(ours, its, "wb"), its

    def started(self) -> None:
        """The process has its ends."""
        self._its.close()

    async def taken(self, ours: io.FileIO | socket.socket, making: Awaitable[tuple[T, object]]) -> T:
        """The transport that is made of an end of ours, and closes it from then on."""
        transport, _ = await making
        self._ours.remove(ours)
        return transport

    def _pipe(self, ours: int, its: int, mode: str) -> io.FileIO:
        self._its.callback(os.close, its)
        file = io.FileIO(ours, mode)
        self._ours.append(file)
        return file
