"""The models' schemas, to read the log with; learnt from `deployment.changed`."""

import asyncio
import time
from collections import OrderedDict

from contracts import DeploymentChanged, ModelSchema
from services.kit.compacted import Change
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.telemetry import get_logger

from .. import store

log = get_logger(__name__)

_KEPT = 500
_WAIT_S = 5.0
_LOOK_AGAIN_S = 10.0


class Schemas:
    """Schemas by endpoint and version."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: OrderedDict[tuple[str, int], ModelSchema] = OrderedDict()
        self._unknown: dict[tuple[str, int], float] = {}
        self._learnt = asyncio.Event()

    async def learn(self, change: Change[DeploymentChanged]) -> None:
        """Keep the schemas of every version that serves."""
        if change.event is None:
            return
        with use(Context(system("recorder", change.event.unit))):
            async with self._db.transaction() as tx:
                await store.save_versions(tx.session, change.event)
        for variant in change.event.variants:
            self._keep((change.event.endpoint, variant.version), variant.model_schema)
        self._learnt.set()
        self._learnt = asyncio.Event()

    async def find(self, endpoint: str, version: int) -> ModelSchema | None:
        """A version's schema. One not known yet is waited for: its deployment is said before its inferences."""
        key = (endpoint, version)
        if found := self._known.get(key):
            return found
        patient = key not in self._unknown
        if not patient and time.monotonic() < self._unknown[key]:
            return None
        if found := await self._look(key, _WAIT_S if patient else 0.0):
            self._keep(key, found)
            return found
        log.warning("a version is not in any deployment", endpoint=endpoint, version=version)
        self._unknown[key] = time.monotonic() + _LOOK_AGAIN_S
        return None

    async def _look(self, key: tuple[str, int], wait_s: float) -> ModelSchema | None:
        deadline = time.monotonic() + wait_s
        while True:
            with use(Context(system("recorder"))):
                async with self._db.reading() as session:
                    found = await store.schema(session, *key)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            try:
                async with asyncio.timeout(min(left, 1.0)):
                    await self._learnt.wait()
            except TimeoutError:
                pass

    def _keep(self, key: tuple[str, int], schema: ModelSchema) -> None:
        self._known[key] = schema
        self._unknown.pop(key, None)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
