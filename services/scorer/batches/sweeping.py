"""Inputs that stay on one host: they wait for it by its name, and nothing stays of a job that is at its end."""

import asyncio

from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.telemetry import get_logger

from . import store
from .inputs import Inputs

log = get_logger(__name__)

_EVERY_S = 30.0


class Sweeping:
    """A job may end elsewhere, or never have begun: cancelled through another host, or its process killed."""

    def __init__(self, db: Database, inputs: Inputs, progress: Progress) -> None:
        self._db = db
        self._inputs = inputs
        self._progress = progress

    async def run(self) -> None:
        """At the start and now and then, until cancelled."""
        while True:
            await self.once()
            self._progress.beat("inputs")
            await asyncio.sleep(_EVERY_S)

    async def once(self) -> None:
        """Whose input lies here is this host's, under the name that it has now; delete what is of no use."""
        here = await asyncio.to_thread(self._inputs.here)
        with use(Context(system("scorer"))):
            async with self._db.transaction() as tx:
                await store.claim(tx.session, here, self._inputs.host)
                going_on = await store.going_on(tx.session, here)
        swept = await asyncio.to_thread(self._inputs.sweep, {id: going_on.get(id) for id in here})
        if swept:
            log.info("inputs of batches that are at their end are deleted", files=swept)
