"""How endpoints serve: what their use cases promise, and what people ask about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts import UseCaseRegistered
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.ids import now

from .. import store
from ..domain.service import slots as counts
from ..domain.service.costs import Prices, Used
from ..domain.service.figures import Figures, Seen, figures
from ..domain.service.objectives import Name, Promise
from ..domain.service.spans import Span, length_of
from ..settings import MonitorSettings
from ..store import Endpoint, service, slots, usage
from ..store.service import Burn
from ..store.slots import Slot

Version = tuple[str, int]
"""A model and its version."""
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Service:
    """How an endpoint served in a span of time."""

    endpoint: Endpoint
    span: Span
    promise: Promise | None
    prices: Prices | None
    whole: Figures
    versions: Mapping[Version, Figures]
    """The newest first."""
    last_hour: Figures
    """How it serves now."""
    burning: Mapping[Name, Burn]


class Serving:
    """Reads under the caller's units; learns what use cases promise."""

    def __init__(self, settings: MonitorSettings, db: Database) -> None:
        self._kept_days = settings.windows_kept_days
        self._prices = settings.prices
        self._db = db

    async def learn_promise(self, event: UseCaseRegistered) -> None:
        """Keep the service level of a use case."""
        with use(Context(system("monitor", event.unit))):
            async with self._db.transaction() as tx:
                await service.save_promise(tx.session, event)

    async def service(self, name: str, span: str) -> Service:
        """Of the last so much time (`24h`, `7d`). Raises Invalid for what is no span, NotFound."""
        at = now()
        asked, hour = Span.last(length_of(span, self._kept_days), at), Span.last(_HOUR, at)
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
            promise = await service.promise(session, endpoint.use_case)
            seen = _seen(await slots.read(session, name, asked), await usage.used(session, name, asked))
            lately = _seen(await slots.read(session, name, hour), await usage.used(session, name, hour))
            burning = await service.burning(session, name)

        def told(one: Seen, of: Span) -> Figures:
            return figures(one, of, promise, self._prices)

        return Service(
            endpoint, asked, promise, self._prices, told(Seen.all(seen.values()), asked),
            {version: told(seen[version], asked) for version in sorted(seen, key=_newest_first)},
            told(Seen.all(lately.values()), hour), burning,
        )  # fmt: skip


def _seen(found: Sequence[Slot], used: Mapping[Version, Used]) -> dict[Version, Seen]:
    by_version: dict[Version, list[Slot]] = {version: [] for version in used}
    for slot in found:
        by_version.setdefault((slot.place.model, slot.place.version), []).append(slot)
    return {
        version: Seen(
            counts.by((slot.place.mode, slot.counts) for slot in members), _first(members), used.get(version, Used())
        )
        for version, members in by_version.items()
    }  # fmt: skip


def _first(members: Sequence[Slot]) -> datetime | None:
    return min((slot.start for slot in members), default=None)


def _newest_first(version: Version) -> tuple[str, int]:
    return version[0], -version[1]
