"""The ledger's chain: each record's hash covers its bytes and every record before it.

Hashing follows RFC 6962 (Certificate Transparency) in telling leaves from links by a first byte. A checkpoint names
position and head; signed and kept outside the database, it shows every later change of what it covers.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from contracts import AuditRecorded

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


COLUMNS = ("service", "number", "unit", "action", "subject", "actor", "at", "correlation_id")
"""What is copied out of a record's bytes into columns, for lists and for row-level security."""


@dataclass(frozen=True)
class Sealed:
    """A checkpoint as the verification needs it."""

    position: int
    head: str
    trusted: bool
    """Its signature fits, by a key of the governor."""


@dataclass(frozen=True)
class End:
    """Where the database itself says that the ledger ends. Unsigned: it shows a cut by whoever forgot to change it."""

    position: int = 0
    hash: str = GENESIS
    numbers: Mapping[str, int] = field(default_factory=dict[str, int])
    """The last number of each service."""


@dataclass
class Verification:
    """Walks the ledger in order of position and remembers the first thing that is wrong.

    Signed checkpoints prove the records up to the last of them; later ones are only chained and counted.
    """

    seals: Mapping[int, list[Sealed]]
    end: End = field(default_factory=End)
    position: int = 0
    head: str = GENESIS
    proved: int = 0
    """Up to here a trusted checkpoint says that nothing was changed."""
    fault: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def see(self, record: Link, columns: Mapping[str, Any]) -> None:
        """The next record with its copied columns; faults after the first are not looked for."""
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
        if altered := altered_column(record.content, columns):
            self._wrong(record.position, f"the column {altered} of record {record.position} is not what was recorded")
            return
        self._count(record, str(columns["service"]), int(columns["number"]))
        if not self.fault:
            self._check_seals()

    def finish(self) -> tuple[int, str] | None:
        """The first fault, checkpoints beyond the end and a cut tail included."""
        beyond = sorted(position for position in self.seals if position > self.position or position < 1)
        for position in beyond:
            if not any(seal.trusted for seal in self.seals[position]):
                self._wrong(self.position + 1, f"a checkpoint at {position} is forged: its signature does not fit")
            else:
                self._wrong(
                    self.position + 1,
                    f"the ledger ends at {self.position} and a checkpoint seals {position}: it was cut, or an old copy "
                    "is back",
                )
        if self.end.position > self.position:
            self._wrong(
                self.position + 1,
                f"the ledger ends at {self.position} and once ended at {self.end.position}: unsealed records were cut",
            )
        for service, number in sorted(self.end.numbers.items()):
            if number > (seen := self._numbers.get(service, 0)):
                self._wrong(self.position + 1, f"{service}'s numbers {seen + 1} to {number} were cut off the end")
        return self.fault

    def _count(self, record: Link, service: str, number: int) -> None:
        expected = self._numbers.get(service, 0) + 1
        if number != expected:
            self._wrong(record.position, f"{service}'s number {expected} is missing before record {record.position}")
        elif self.end.position == record.position and self.end.hash != record.hash:
            self._wrong(record.position, f"the ledger's own head at {record.position} is another")
        self._numbers[service] = number

    def _check_seals(self) -> None:
        for seal in self.seals.get(self.position, ()):
            if not seal.trusted:
                self._wrong(self.position, f"the checkpoint at {self.position} is forged: its signature does not fit")
            elif seal.head != self.head:
                self._wrong(
                    self.proved + 1, f"records {self.proved + 1} to {self.position} are not what the checkpoint sealed"
                )
            else:
                self.proved = self.position

    def _wrong(self, position: int, what: str) -> None:
        self.fault = self.fault or (position, what)


def altered_column(content: bytes, columns: Mapping[str, Any]) -> str | None:
    """The first column that does not say what the record's bytes say; `content` for bytes that cannot be read."""
    try:
        told = AuditRecorded.model_validate_json(content)
    except ValidationError:
        return "content"
    return next((name for name in COLUMNS if columns[name] != getattr(told, name)), None)


def conclusion(records: int, proved: int) -> str:
    """What a verification without a fault proves, and up to where, for a person."""
    if records == 0:
        return "the ledger is empty"
    if proved == 0:
        return f"{records} records are chained, none is under a checkpoint yet: a cut of the end could not be told"
    sealed = f"records 1 to {proved} are as they were sealed"
    if records == proved:
        return sealed
    return (
        f"{sealed}; the {records - proved} after them are chained and counted, but not under a checkpoint yet: whoever "
        "rules the database could still cut them"
    )
