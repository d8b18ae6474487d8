"""Where a version errs most: the search over all groups of its segments and all pairs of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from services.kit.db import Database
from services.kit.errors import NotFound
from services.kit.ids import now

from .. import store
from ..domain.outcomes.labelled import Task
from ..domain.outcomes.slices import Losses, Worse, possible, worst
from ..store import slices
from ..store.outcomes import Span
from .versions import Versions

_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class _Counted:
    """All days of one variant."""

    span: Span
    task: Task
    losses: Losses = field(default_factory=Losses)

    def count(self, day: Span, sliced: slices.Sliced) -> None:
        self.span = replace(self.span, start=min(self.span.start, day.start), end=max(self.span.end, day.end))
        self.losses.merge(sliced.losses)


@dataclass(frozen=True)
class Sought:
    """What the search over one variant's rows found."""

    version: int
    variant: str
    task: Task
    start: datetime
    end: datetime
    labelled: int
    loss: float
    """Of all rows."""
    segments: Sequence[str]
    possible: int
    """Slices that there can be: the doubt is shared out over so many."""
    looked_at: int
    """Those with enough rows in them and beside them."""
    worse: Sequence[Worse]
    """The most surely bad first."""


class Slicing:
    """Reads under the caller's units."""

    def __init__(self, db: Database, versions: Versions) -> None:
        self._db, self._versions = db, versions

    async def worst(
        self, name: str, version: int | None, since: datetime | None, until: datetime | None
    ) -> list[Sought]:
        """By version, the newest first, of whole days (UTC), of all that are kept unless said otherwise.

        Raises NotFound for an endpoint or a version that is not there.
        """
        until = until or now() + timedelta(days=1)
        since = slices.midnight(since or _EVER)
        found: dict[tuple[int, str], _Counted] = {}
        async with self._db.reading() as session:
            await store.endpoint(session, name)
            if version is not None and await store.version(session, name, version) is None:
                raise NotFound(f"endpoint {name} has no version {version}")
            async for day, sliced in slices.days(session, name, version, since, until):
                variant = day.version, day.variant
                found.setdefault(variant, _Counted(day, sliced.task)).count(day, sliced)
        ordered = sorted(found, key=lambda variant: (-variant[0], variant[1]))
        return [await self._sought(found[variant]) for variant in ordered if found[variant].losses.whole.rows]

    async def _sought(self, counted: _Counted) -> Sought:
        span, losses = counted.span, counted.losses
        meaning = (await self._versions.find(span.endpoint, span.version)).meaning
        slices_at_most = max(possible(meaning), len(losses.slices))  # a version that is forgotten declares none
        worse, enough = await asyncio.to_thread(worst, losses, counted.task, slices_at_most)
        return Sought(
            span.version, span.variant, counted.task, span.start, span.end, losses.whole.rows, losses.whole.mean,
            meaning.searched, slices_at_most, enough, worse,
        )  # fmt: skip
