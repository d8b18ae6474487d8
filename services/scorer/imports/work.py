"""`inference.imported` to `inference.logged`, exactly once per inference id."""

from collections.abc import Callable, Sequence

import orjson
from sqlalchemy.exc import DBAPIError, InterfaceError

from contracts import DeploymentChanged, InferenceImported, InferenceLogged
from services.kit import deadletters
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.errors import Invalid, Refusal
from services.kit.objects import Objects
from services.kit.transactional import Incoming, Output, Placed

from ..logrecord import HeaderMaker, LogRecord, offload
from ..streams.work import WITHHELD
from ..tokenise import Tokeniser
from ..v2 import Codec
from . import store
from .domain import log_record, parse


class ImportWork:
    """Implements `services.kit.transactional.Work`."""

    def __init__(
        self, db: Database, objects: Objects, tokeniser: Tokeniser, wanted: Callable[[str], DeploymentChanged | None]
    ) -> None:
        self._db = db
        self._objects = objects
        self._tokeniser = tokeniser
        self._wanted = wanted
        self._headers = HeaderMaker()
        self.imported = InferenceImported.topic.name
        self.logged = InferenceLogged.topic.name
        self.dead = deadletters.topic_of(self.imported)

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.logged, self.dead

    async def opened(self, partition: int) -> None:
        """Old ids are forgotten now and then: here."""
        with use(Context(system("scorer"))):
            async with self._db.transaction() as tx:
                await store.forget(tx.session)

    async def handle(self, partition: int, records: Sequence[Incoming], out: Output) -> None:
        made: list[tuple[Incoming, LogRecord]] = []
        for record in records:
            if deadletters.addressed_to_another(record.headers, "scorer"):
                continue
            try:
                made.append((record, self._record(record)))
            except Refusal as refusal:
                self.reject(partition, record, refusal, out)
        if not made:
            return
        first = await self._claim(partition, [(log.inference_id, record.offset) for record, log in made])
        for record, log in made:
            if record.offset in first:
                await self._say(partition, record, log, out)

    def reject(self, partition: int, record: Incoming, error: Exception, out: Output) -> None:
        value = WITHHELD if self._is_private(record) else record.value
        place = ("scorer", self.imported, partition, record.offset)
        value, reason = deadletters.letter(value, record.headers, *place, error)
        out.add(self.dead, partition % out.partitions(self.dead), record.key, value, reason)

    async def committed(self, partition: int, placed: dict[tuple[str, int], list[Placed]]) -> None:
        """Nothing is kept here: claims are in PostgreSQL."""

    def dropped(self, partition: int) -> None:
        """Nothing is kept here."""

    def _record(self, record: Incoming) -> LogRecord:
        said = dict(record.headers)
        if said.get("ce_type") != InferenceImported.type().encode():
            raise Invalid("the header ce_type must be inference.imported", "ce_type")
        event = parse(record.value)
        endpoint = self._wanted(event.endpoint)
        if endpoint is None or not endpoint.variants:
            raise Invalid(f"there is no endpoint {event.endpoint}", "endpoint")
        return log_record(event, endpoint, self._codec(endpoint))

    def _is_private(self, record: Incoming) -> bool:
        """Whether the record names an endpoint with sensitive columns."""
        try:
            said = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            return False
        name = said.get("endpoint") if isinstance(said, dict) else None
        endpoint = self._wanted(name) if isinstance(name, str) else None
        return endpoint is not None and self._codec(endpoint) is not None

    def _codec(self, endpoint: DeploymentChanged) -> Codec | None:
        variant = endpoint.variants[0]
        if not any(column.sensitive for column in variant.model_schema.columns):
            return None
        return Codec(
            variant.model_schema, endpoint.endpoint, str(variant.version), variant.name, self._tokeniser.token
        )  # fmt: skip

    async def _claim(self, partition: int, records: list[tuple[str, int]]) -> set[int]:
        try:
            with use(Context(system("scorer"))):
                async with self._db.transaction() as tx:
                    return await store.claim(tx.session, partition, records)
        except (DBAPIError, InterfaceError, OSError) as error:
            raise TimeoutError(f"PostgreSQL is away: {error!r}"[:200]) from error

    async def _say(self, partition: int, record: Incoming, log: LogRecord, out: Output) -> None:
        kept = await offload(log, self._objects)
        value = kept.value(f"import.{partition}", record.offset + 1)
        target = partition % out.partitions(self.logged)
        out.add(self.logged, target, log.inference_id.encode(), value, self._headers.headers(kept))
