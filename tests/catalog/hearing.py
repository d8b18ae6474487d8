"""The catalog as it hears: events in their unit, what it says, and its candidates on their way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from contracts import Event
from services.catalog.handlers import subscriptions
from services.catalog.intake import Intake
from services.catalog.jobs import InspectCandidates
from services.catalog.settings import CatalogSettings
from services.catalog.usecases import Candidates, Catalog
from services.kit.context import Claim, Context, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects

from . import making, models

STORY = {"correlation_id": "story-1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


class House:
    """A catalog on a real database and a real object store."""

    def __init__(self, db: Database, settings: CatalogSettings) -> None:
        self.db, self.settings, self.objects = db, settings, Objects(settings)
        self.intake = Intake(settings, self.objects)
        self.catalog, self.candidates = Catalog(db, self.intake), Candidates(db, self.intake)
        self.progress = Progress()
        self.job = InspectCandidates(self.candidates, self.progress)

    async def hear(self, event: Event, id: str = "1", unit: str = "retail") -> None:
        """As the bus calls a handler: the service itself, in the event's unit and story, with an inbox row to write."""
        table = {each.event: each.handle for each in subscriptions(self.catalog, self.candidates)}
        with use(Context(system("catalog", unit), claim=Claim(f"test {id}"), **STORY)):
            await table[type(event)](event)

    async def has_champion(self) -> None:
        """Version 1 of credit."""
        with self.in_unit():
            await self.catalog.add(making.candidate(), "retail", "ann")

    async def packed(self, **said: Any) -> str:
        """A package as the retrainer leaves it: its digest."""
        said = {"columns": models.COLUMNS} | said
        return await self.objects.put(models.package(models.onnx_bytes(models.onnx_model()), **said))

    async def hears_of_a_winner(self, *, id: int = 7, **said: Any) -> str:
        """A candidate won; the id of its retraining."""
        event = making.retraining(id=id, package_digest=await self.packed(**said))
        await self.hear(event, f"winner {id}")
        return str(event.retraining_id)

    async def said(self, topic: str) -> list[dict[str, Any]]:
        """What was said on a topic, in order, with its headers."""
        select = "SELECT value::jsonb AS value, headers FROM outbox WHERE topic = :topic ORDER BY number"
        async with self.db.chassis() as session:
            rows = (await session.execute(text(select), {"topic": topic})).all()
        return [row.value | {"headers": dict(row.headers)} for row in rows]

    async def way(self, retraining_id: str) -> Any:
        """The row of a candidate."""
        with self.in_unit():
            async with self.db.reading() as session:
                return (await session.execute(text("SELECT * FROM candidate WHERE retraining_id = :id"),
                                              {"id": retraining_id})).one()  # fmt: skip

    async def hurry(self) -> None:
        """What was put back is due now."""
        with self.in_unit():
            async with self.db.transaction() as tx:
                await tx.session.execute(text("UPDATE candidate SET next_try = now() - interval '1 day'"))

    async def lineage(self) -> set[str]:
        """What the graph of version 1 names."""
        with self.in_unit():
            graph = await self.catalog.lineage("credit", 1)
        return {node.label for node in graph.nodes}

    @staticmethod
    @contextmanager
    def in_unit() -> Iterator[None]:
        with use(Context(system("catalog", "retail"))):
            yield
