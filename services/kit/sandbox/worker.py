"""The worker process: reads its job, locks itself in, then answers calls until its parent goes.

Run by the kit as `python -P -m services.kit.sandbox.worker <descriptor>`.
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from . import imports, lockdown, words
from .spec import HEADER, MAX_ERROR, MAX_PAYLOAD, Kind, Spec

Answer = Callable[[bytes], bytes]


class Channel:
    """Frames over an inherited socket, with plain read and write: the filter knows no socket calls."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def receive(self) -> tuple[Kind, int, bytes]:
        """The next frame; ends the process when the parent is gone."""
        kind, number, length = HEADER.unpack(self._read(HEADER.size))
        return Kind(kind), number, self._read(length)

    def send(self, kind: Kind, number: int, payload: bytes = b"") -> None:
        frame = memoryview(HEADER.pack(kind, number, len(payload)) + payload)
        while frame:
            frame = frame[os.write(self._fd, frame) :]

    def _read(self, length: int) -> bytes:
        data = os.read(self._fd, length) if length else b""
        if len(data) == length:
            return data
        parts = bytearray(data)
        while len(parts) < length:
            if not (more := os.read(self._fd, min(length - len(parts), 1 << 20))):
                os._exit(0)
            parts += more
        return bytes(parts)


def main(fd: int) -> None:
    channel = Channel(fd)
    spec = Spec.from_json(channel.receive()[2])
    name, _, factory = spec.entry.partition(":")
    package = name.partition(".")[0]
    lockdown.confine(spec, package)
    entry = None if spec.packages else _trusted(name, spec.preload)
    lockdown.seal(spec)
    if spec.packages:
        imports.require_own(package)
        imports.add(spec.packages)
    channel.send(Kind.LOCKED, 0)
    # A stranger's libraries are imported, by a module of the house, behind the walls only.
    answer = _guarded(
        channel, 0, lambda argument: getattr(entry or _trusted(name, ()), factory)(argument), channel.receive()[2]
    )
    if answer is None:
        return
    channel.send(Kind.READY, 0)
    _serve(channel, answer)


def _serve(channel: Channel, answer: Answer) -> None:
    while True:
        _, number, payload = channel.receive()
        reply = _guarded(channel, number, answer, payload)
        if reply is None:
            continue
        if not isinstance(reply, bytes):
            channel.send(Kind.ERROR, number, f"answered {type(reply).__name__}, not bytes".encode())
        elif len(reply) > MAX_PAYLOAD:
            channel.send(Kind.ERROR, number, f"the answer is larger than {MAX_PAYLOAD} bytes".encode())
        else:
            channel.send(Kind.ANSWER, number, reply)


def _trusted(name: str, preload: tuple[str, ...]) -> Any:
    """Import the entry's module and the libraries that it will need, before the filter closes."""
    for library in preload:
        importlib.import_module(library)
    return importlib.import_module(name)


def _guarded(channel: Channel, number: int, work: Callable[[bytes], Any], payload: bytes) -> Any:
    """What the untrusted code answers; None after its error was told."""
    try:
        return work(payload)
    except BaseException as error:  # noqa: BLE001 - whatever untrusted code raises is an answer
        text = f"{_place_of(error)}\0{type(error).__name__}: {error}".encode(errors="replace")[:MAX_ERROR]
    channel.send(Kind.ERROR, number, text)
    return None


def _place_of(error: BaseException) -> str:
    """Nothing where the error is such that nothing can be said of it: its own words are told all the same."""
    try:
        return words.place_of(error).replace("\0", "")
    except Exception:  # noqa: BLE001 - a stranger's exception
        return ""


if __name__ == "__main__":
    main(int(sys.argv[1]))
