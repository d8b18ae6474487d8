"""The ledger's chain: each record's hash covers its bytes and every record before it.

Hashing follows RFC 6962 (Certificate Transparency) in telling leaves from links by a first byte. A checkpoint names
position and head; signed and kept outside the database, it shows every later change of what it covers.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LEDGER = "fairlead"
GENESIS = "sha256:" + hashlib.sha256(b"fairlead ledger 1").hexdigest()
"""The head of an empty ledger."""


def leaf(content: bytes) -> str:
    """The hash of one record's canonical bytes, in hex."""
    return hashlib.sha256(b"\x00" + content).hexdigest()


def link(head: str, leaf_hex: str) -> str:
    """The head after one more record."""
    joined = b"\x01" + bytes.fromhex(head.removeprefix("sha256:")) + bytes.fromhex(leaf_hex)
    return "sha256:" + hashlib.sha256(joined).hexdigest()


@dataclass(frozen=True)
class Link:
    """A record in its place."""

    position: int
    hash: str
    content: bytes


def extend(position: int, head: str, contents: Iterable[bytes]) -> list[Link]:
    """Append records after `position`, whose hash is `head`."""
    links: list[Link] = []
    for content in contents:
        position, head = position + 1, link(head, leaf(content))
        links.append(Link(position, head, content))
    return links


def in_order(last: int, rows: Mapping[int, bytes]) -> tuple[list[int], list[int]]:
    """The numbers that follow `last` without a gap, and those that have to wait for one before them."""
    ready: list[int] = []
    for number in sorted(n for n in rows if n > last):
        if number != last + 1:
            break
        ready.append(number)
        last = number
    return ready, sorted(n for n in rows if n > last)


@dataclass(frozen=True)
class Sealed:
    """A checkpoint as the verification needs it."""

    position: int
    head: str
    trusted: bool
    """Its signature fits, by a key of the governor."""


@dataclass
class Verification:
    """Walks the ledger in order of position and remembers the first thing that is wrong."""

    seals: Mapping[int, list[Sealed]]
    position: int = 0
    head: str = GENESIS
    fault: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._good = 0

    def see(self, record: Link, service: str, number: int) -> None:
        """The next record; faults after the first are not looked for."""
        if self.fault:
            return
        if record.position != self.position + 1:
            self._wrong(self.position + 1, f"record {self.position + 1} is missing")
            return
        self.position = record.position
        self.head = link(self.head, leaf(record.content))
        if self.head != record.hash:
            self._wrong(record.position, f"record {record.position} was altered, dropped or reordered")
            return
        if number != self._numbers.get(service, 0) + 1:
            missing = self._numbers.get(service, 0) + 1
            self._wrong(record.position, f"{service}'s number {missing} is missing before record {record.position}")
            return
        self._numbers[service] = number
        self._check_seals()

    def finish(self) -> tuple[int, str] | None:
        """The first fault, checkpoints beyond the end included."""
        beyond = sorted(position for position in self.seals if position > self.position)
        if not self.fault and beyond:
            self._wrong(
                self.position + 1,
                f"the ledger ends at {self.position} and a checkpoint seals {beyond[0]}: it was cut, or an old copy is back",
            )
        return self.fault

    def _check_seals(self) -> None:
        for seal in self.seals.get(self.position, ()):
            if not seal.trusted:
                self._wrong(self.position, f"the checkpoint at {self.position} is forged: its signature does not fit")
            elif seal.head != self.head:
                self._wrong(
                    self._good + 1, f"records {self._good + 1} to {self.position} are not what the checkpoint sealed"
                )
            else:
                self._good = self.position

    def _wrong(self, position: int, what: str) -> None:
        self.fault = self.fault or (position, what)
