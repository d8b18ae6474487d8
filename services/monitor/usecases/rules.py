"""Tells how decisions keep the business rules of an endpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts import Rule
from services.kit.db import Database
from services.kit.rulebook import Rulebook
from services.kit.rules import Facts, unfit

from .. import store
from ..domain.rules import Keeping, Key, Tally
from ..store import Endpoint, rules
from ..store.rules import Span


@dataclass(frozen=True)
class Kept:
    """One rule, over the windows that were looked at."""

    name: str
    rule: Rule
    tally: Tally
    keeping: Keeping | None
    """Where its watch stands."""
    by_row: bool
    """Whether it is evaluated row by row, so that some rows are left out where there are many."""
    why: str | None
    """Why it cannot be evaluated for decisions of the version that serves."""


@dataclass(frozen=True)
class Ruled:
    """All rules of an endpoint, over its newest windows."""

    endpoint: Endpoint
    span: Span
    """Its rows were looked at, or not."""
    kept: Sequence[Kept]


class Telling:
    """Reads under the caller's units."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def told(self, name: str, windows: int) -> Ruled:
        """Over so many newest windows of whichever version. Raises NotFound."""
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
            version = await store.version(session, name, endpoint.version)
            states = await rules.watches(session, name)
            wanted = endpoint.settings.rules
            keys = [Key(each, rule.must) for each, rule in wanted.items()]
            span, counted = await rules.kept(session, name, windows, keys)
        book = Rulebook.of(Facts.of(version.schema), wanted) if version else None
        why = unfit(wanted, book.facts, version.schema) if book and version else {}
        kept = [
            Kept(
                each, rule, counted.by.get(Key(each, rule.must), Tally()), _of(states.get(each), rule),
                book is not None and book.by_row(rule.must), why.get(each),
            )
            for each, rule in wanted.items()
        ]  # fmt: skip
        return Ruled(endpoint, span, kept)


def _of(state: Keeping | None, rule: Rule) -> Keeping | None:
    return state if state and state.is_of(rule) else None
