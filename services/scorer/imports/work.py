"""`inference.imported` to `inference.logged`, exactly once per inference id."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import orjson
from prometheus_client import Counter

from contracts import DeploymentChanged, InferenceImported, InferenceLogged
from services.kit import deadletters
from services.kit.away import is_away
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database
from services.kit.errors import Invalid, Refusal
from services.kit.ids import now
from services.kit.objects import Objects
from services.kit.transaction_output import Output, Placed
from services.kit.transactional import Incoming

from ..logrecord import HeaderMaker, LogRecord, offload
from ..tokenise import Tokeniser
from . import store
from .codecs import Codecs
from .domain import check_headers, check_unit, log_record, parse, variant_of
from .kserve import domain as kserve
from .kserve.usecases import Intake

IMPORTED = Counter("fairlead_scorer_imported_total", "Records of foreign inferences", ["result"])
GROUP = "scorer.imports.inferences"
"""The consumer group. An endpoint's own is `scorer.` and its name, which holds no dot: none can be called this."""
_WITHHELD = b'{"withheld":"the record may hold sensitive columns: it is where the headers say, for 7 days"}'


class ImportWork:
    """Implements `services.kit.transactional.Work`."""

    def __init__(
        self, db: Database, objects: Objects, tokeniser: Tokeniser,
        wanted: Callable[[str], DeploymentChanged | None], units: frozenset[str], intake: Intake,
    ) -> None:  # fmt: skip
        self._db = db
        self._objects = objects
        self._codecs = Codecs(tokeniser)
        self._wanted = wanted
        self._units = units
        self._intake = intake
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
        made: list[tuple[Incoming, LogRecord, str]] = []
        for record in records:
            if deadletters.addressed_to_another(record.headers, "scorer"):
                continue
            try:
                if kserve.is_half(record.headers):
                    await self._take_half(record)
                else:
                    made.append((record, *self._record(record)))
            except Refusal as refusal:
                self.reject(partition, record, refusal, out)
        if not made:
            return
        claims = await self._claim(partition, [(log.inference_id, record.offset, name) for record, log, name in made])
        for record, log, endpoint in made:
            claim = claims[log.inference_id]
            if claim.endpoint not in (None, endpoint):
                # Its ids are the producer's choice: one must not silence another's by saying them first.
                reason = "inference_id: another endpoint has an inference of this id"
                self.reject(partition, record, Invalid(reason, "inference_id"), out)
            elif (claim.partition, claim.offset) == (partition, record.offset):
                await self._say(partition, record, log, out)
                IMPORTED.labels("logged").inc()
            else:
                IMPORTED.labels("repeat").inc()

    def reject(self, partition: int, record: Incoming, error: Exception, out: Output) -> None:
        IMPORTED.labels("refused").inc()
        value = _WITHHELD if self._is_private(record) else record.value
        place = ("scorer", self.imported, partition, record.offset)
        value, reason = deadletters.letter(value, record.headers, *place, error)
        out.add(self.dead, partition % out.partitions(self.dead), record.key, value, reason)

    async def committed(self, partition: int, placed: dict[tuple[str, int], list[Placed]]) -> None:
        """Nothing is kept here: claims are in PostgreSQL."""

    def dropped(self, partition: int) -> None:
        """Nothing is kept here."""

    def _record(self, record: Incoming) -> tuple[LogRecord, str]:
        """The log record, and its endpoint."""
        said = dict(record.headers)
        check_headers(said)
        event = parse(record.value, now())
        endpoint = self._wanted(event.endpoint)
        variant = variant_of(event, endpoint, said, self._units)
        assert endpoint is not None
        return log_record(event, endpoint, variant, self._codecs.of(endpoint, variant)), endpoint.endpoint

    async def _take_half(self, record: Incoming) -> None:
        """A half of KServe's, as its logger posts them or a Knative sink writes them here; it waits for the other one
        in PostgreSQL, and what is whole goes into the log from there."""
        headers = kserve.as_http(record.headers)
        sent = kserve.attributes(headers, now())
        endpoint = self._wanted(sent.service)
        if endpoint is None:
            raise Invalid(f"there is no endpoint {sent.service[:80]}", "ce_inferenceservicename")
        check_unit(endpoint, dict(record.headers), self._units)
        caller = Caller(kserve.source_of(headers), "application", frozenset(), frozenset({endpoint.unit}))
        with use(Context(caller)), _away():
            state = await self._intake.take(caller, sent.service, None, sent, record.value or b"")
        IMPORTED.labels("repeat" if state == "repeated" else "half").inc()

    def _is_private(self, record: Incoming) -> bool:
        """Whether the record names an endpoint with sensitive columns, or may: nobody can tell of what is no JSON."""
        if kserve.is_half(record.headers):
            named = self._wanted(kserve.as_http(record.headers).get("ce-inferenceservicename", ""))
            return named is None or _hides(named)
        try:
            said = orjson.loads(record.value or b"null")
        except orjson.JSONDecodeError:
            return True
        name = said.get("endpoint") if isinstance(said, dict) else None
        endpoint = self._wanted(name) if isinstance(name, str) else None
        return endpoint is not None and _hides(endpoint)

    async def _claim(self, partition: int, records: list[tuple[str, int, str]]) -> dict[str, store.Claim]:
        with use(Context(system("scorer"))), _away():
            async with self._db.transaction() as tx:
                return await store.claim(tx.session, partition, records)

    async def _say(self, partition: int, record: Incoming, log: LogRecord, out: Output) -> None:
        kept = await offload(log, self._objects)
        value = kept.value(f"import.{partition}", record.offset + 1)
        target = partition % out.partitions(self.logged)
        out.add(self.logged, target, log.inference_id.encode(), value, self._headers.headers(kept))


def _hides(endpoint: DeploymentChanged) -> bool:
    return any(c.sensitive for v in endpoint.variants for c in v.model_schema.columns)


@contextmanager
def _away() -> Generator[None]:
    """Raises TimeoutError where PostgreSQL is away: the transaction is tried again."""
    try:
        yield
    except Exception as error:  # its kinds have no common base; all others go on
        if not is_away(error):
            raise  # a statement's own fault: the record that made it is found by halving
        raise TimeoutError(f"PostgreSQL is away: {error!r}"[:200]) from error
