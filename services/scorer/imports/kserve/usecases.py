"""Takes halves of KServe's inferences in, joins them by id, and says each once as `inference.logged`."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from prometheus_client import Counter

from contracts import DeploymentChanged, InferenceLogged, Variant
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import Busy, Conflict, NotFound, TooLarge
from services.kit.objects import Objects
from services.kit.producer import Producer
from services.kit.telemetry import get_logger

from ...logrecord import HeaderMaker, LogRecord, offload
from ...settings import ScorerSettings
from ...tokenise import Tokeniser
from .. import store as claims
from ..codecs import Codecs
from ..domain import LARGEST_BYTES
from . import store
from .domain import Asked, Sent, joined, request_half, response_half, variant_of
from .store import Figures, Pair

log = get_logger(__name__)

HALVES = Counter("fairlead_scorer_kserve_halves_total", "Halves of KServe's inferences", ["endpoint", "result"])
_AT_ONCE = 500
_IDLE_S, _TIDY_S = 1.0, 30.0
_OVER_HTTP = -1
"""In place of a partition of Kafka's, where an id is claimed."""
State = Literal["waiting", "joined", "repeated"]


class Intake:
    """What KServe's logger may ask."""

    def __init__(
        self, db: Database, tokeniser: Tokeniser, wanted: Callable[[str], DeploymentChanged | None],
        crowded: Callable[[], frozenset[str]],
    ) -> None:  # fmt: skip
        self._db = db
        self._codecs = Codecs(tokeniser)
        self._wanted = wanted
        self._crowded = crowded

    async def take(self, caller: Caller, name: str, version: int | None, sent: Sent, body: bytes) -> State:
        """Keep a half, or join it with the other one. Raises NotFound, Invalid naming what is wrong, Conflict where
        the id is another endpoint's or the halves are of two versions, Busy where too many wait, TooLarge."""
        if len(body) > LARGEST_BYTES:
            raise TooLarge(f"the body is larger than {LARGEST_BYTES} bytes")
        endpoint = self._endpoint(name, caller)
        variant = variant_of(endpoint, version)
        half = self._read(endpoint, variant, sent, body)
        async with self._db.transaction(unit=endpoint.unit) as tx:
            if name in self._crowded() and not await store.is_waiting(tx.session, name, sent.id):
                raise Busy(f"too many halves of inferences of endpoint {name} wait for their other one")
            pair = await store.keep(
                tx.session, name, sent.id, endpoint.unit, variant.version, sent.side, half, sent.at
            )  # fmt: skip
            state = await self._join(tx, endpoint, variant, sent.id, caller.actor, pair)
        HALVES.labels(name, state).inc()
        return state

    async def figures(self, caller: Caller, name: str) -> Figures:
        """How the halves of an endpoint fared. Raises NotFound."""
        endpoint = self._endpoint(name, caller)
        async with self._db.reading(unit=endpoint.unit) as session:
            return await store.figures(session, name)

    def _endpoint(self, name: str, caller: Caller) -> DeploymentChanged:
        endpoint = self._wanted(name)
        if endpoint is None or not endpoint.variants or not caller.sees(endpoint.unit):
            raise NotFound(f"there is no endpoint {name}")
        return endpoint

    def _read(self, endpoint: DeploymentChanged, variant: Variant, sent: Sent, body: bytes) -> bytes:
        schema = variant.model_schema
        if sent.side == "request":
            return request_half(body, self._codecs.of(endpoint, variant), schema).to_bytes()
        answered, rows = response_half(body, endpoint.endpoint, variant.version, schema)
        return b"%d " % rows + answered

    async def _join(
        self, tx: Tx, endpoint: DeploymentChanged, variant: Variant, id: str, application: str, pair: Pair
    ) -> State:  # fmt: skip
        name, unit = endpoint.endpoint, endpoint.unit
        # After the half is kept: who came at the same time has ended by now.
        claimed = (await claims.claimed(tx.session, [id])).get(id)
        if claimed is not None:
            if claimed.endpoint not in (None, name):
                raise Conflict("ce-id: another endpoint has an inference of this id")
            await store.drop(tx.session, name, id)
            await store.count(tx.session, name, unit, "repeated")
            return "repeated"
        if pair.version != variant.version:
            raise Conflict(f"the other half of this inference is of version {pair.version}")
        if not (pair.request and pair.response and pair.request_at and pair.response_at):
            return "waiting"
        rows, _, answered = pair.response.partition(b" ")
        record = joined(
            endpoint, variant, id, application, Asked.from_bytes(pair.request), answered, int(rows), pair.request_at,
            pair.response_at,
        )  # fmt: skip
        await self._claim(tx, name, id)
        await store.drop(tx.session, name, id)
        await store.count(tx.session, name, unit, "joined")
        await store.make_ready(tx.session, unit, record.to_spool())
        return "joined"

    async def _claim(self, tx: Tx, name: str, id: str) -> None:
        """Raises Conflict where it was imported over Kafka in the same moment."""
        mine = (await claims.claim(tx.session, _OVER_HTTP, [(id, 0, name)]))[id]
        if (mine.partition, mine.endpoint) != (_OVER_HTTP, name):
            raise Conflict("ce-id: another inference of this id came in the same moment")


class Sending:
    """Writes what is whole to the log, under one writer and in the order of its numbers: what is sent twice, since a
    host died before it noted that, is known by them (`DECISIONS.md` 7). Gives halves up that waited too long."""

    def __init__(self, settings: ScorerSettings, db: Database, objects: Objects) -> None:
        self._settings = settings
        self._db = db
        self._objects = objects
        self._headers = HeaderMaker()
        self.crowded: frozenset[str] = frozenset()
        """Endpoints of which more halves wait than may, as it was at the last look."""

    async def run(self) -> None:
        """Until cancelled."""
        tidied = -_TIDY_S
        async with Producer(self._settings) as producer:
            while True:
                now = asyncio.get_running_loop().time()
                if now - tidied >= _TIDY_S:
                    await self.tidy()
                    tidied = now
                if await self._send(producer) < _AT_ONCE:
                    await asyncio.sleep(_IDLE_S)

    async def _send(self, producer: Producer) -> int:
        """Answers how many there were."""
        with use(Context(system("scorer"))):
            async with self._db.transaction() as tx:
                writer, waiting = await store.ready(tx.session, _AT_ONCE)
                if not waiting:
                    return 0
                said = [(n, await offload(LogRecord.from_spool(record), self._objects)) for n, record in waiting]
                records = [
                    (each.inference_id.encode(), each.value(writer, n), self._headers.headers(each))
                    for n, each in said
                ]  # fmt: skip
                await producer.write(InferenceLogged.topic.name, records)
                await store.sent(tx.session, [n for n, _ in waiting])
        return len(waiting)

    async def tidy(self) -> None:
        """Give up the halves that waited too long, and look how many others wait."""
        with use(Context(system("scorer"))):
            async with self._db.transaction() as tx:
                gone = await store.give_up(tx.session, timedelta(hours=self._settings.kserve_wait_hours))
                for endpoint, unit, what, halves in gone:
                    await store.count(tx.session, endpoint, unit, what, halves)
                most, most_mb = self._settings.kserve_waiting, self._settings.kserve_waiting_mb
                self.crowded = await store.crowded(tx.session, most, most_mb * 1024 * 1024)
        for endpoint, _, what, halves in gone:
            HALVES.labels(endpoint, what).inc(halves)
            log.warning("halves of inferences never met their other one", endpoint=endpoint, kind=what, halves=halves)
