"""Which decisions an erasure is about, and by what an entity is recognised that is named nowhere any more."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.kit.errors import Invalid

from .layout import Head


def pseudonym(key: bytes, entity: str) -> str:
    """The same for the same entity of an installation; without its key nobody can tell whose it is (HMAC-SHA256)."""
    return "ent_" + hmac.digest(key, entity.encode(), "sha256").hex()[:32]


def checked_reason(reason: str, entity: str) -> str:
    """The reason. It stays in the ledger for good: raises Invalid where it names who is to be forgotten."""
    if entity.casefold() in reason.casefold():
        raise Invalid("reason: it names the entity, and it is kept for good: say it without", "reason")
    return reason


def unit_of(asked: str | None, units: frozenset[str]) -> str:
    """In which business unit somebody erases, or `*` for all. Raises Invalid where that is not clear."""
    if asked:
        return asked
    if "*" in units:
        return "*"
    if len(units) != 1:
        raise Invalid("unit: say in which of your business units", "unit")
    return next(iter(units))


@dataclass(frozen=True)
class Tombstone:
    """An entity's decisions until a moment were erased, in a unit or in all (`*`), of a use case or of all."""

    erasure: UUID
    entity_hash: str
    unit: str
    use_case: str | None
    until: datetime

    def covers(self, head: Head) -> bool:
        """Whether this decision, of the entity, is one of them."""
        of_unit = self.unit in ("*", head.unit)
        return of_unit and self.use_case in (None, head.use_case) and head.received_at <= self.until


def covering(tombstones: Sequence[Tombstone], hashed: str, head: Head) -> Tombstone | None:
    """The erasure that a decision of an entity comes too late for, if there is one."""
    return next((t for t in tombstones if t.entity_hash == hashed and t.covers(head)), None)
