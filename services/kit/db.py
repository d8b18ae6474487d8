"""One use case is one transaction: claim, effect, audit rows and outbox rows commit together or not at all."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from contracts import AuditRecorded, Event, Service

from . import cloudevents, inbox
from .context import EVERY_UNIT, Claim, Context, current
from .errors import Conflict, TooLarge
from .ids import now, uuid7

_LARGEST_EVENT = 900_000
"""Below what Kafka takes (1 MiB with headers): one larger row would hold up all that was said after it."""

Scalar = str | int | float | bool | None

_FILES = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)

_WRITE_OUTBOX = text("""
    WITH taken AS (
        UPDATE counter SET outbox = outbox + :rows, audit = audit + :audits RETURNING outbox, audit
    )
    INSERT INTO outbox (number, audit, topic, key, headers, value)
    SELECT taken.outbox - :rows + row.place,
           CASE WHEN row.audit IS NULL THEN NULL ELSE taken.audit - :audits + row.audit END,
           row.topic, row.key, row.headers, row.value
    FROM taken, jsonb_to_recordset(CAST(:drafts AS jsonb))
        AS row(place bigint, audit bigint, topic text, key text, headers jsonb, value text)
""")


_KEEP_ANSWER = text("""
    UPDATE idempotency SET status = :status, headers = CAST(:headers AS jsonb), body = :body WHERE key = :key
""")


class AlreadyHandled(Exception):
    """This event had its effect before; the consumer goes on."""


class Repeated(Conflict):
    """A request with this key was done before, or meanwhile; its answer is given again where it is known."""


def is_away(error: BaseException) -> bool:
    """Whether this error says that PostgreSQL is away, not that the statement is wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeout)):
        return True
    if isinstance(error, OSError):  # no such host, no route, no room; but a file that is not there is a fault of ours
        return not isinstance(error, _FILES)
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    # 08: connection; 53: out of resources, a full disk too; 57P: shutting down; 40: serialization or deadlock.
    return sqlstate[:2] in ("08", "53", "40") or sqlstate.startswith("57P")


class Tx:
    """An open transaction: SQL goes through `session`, facts through `emit` and `record`."""

    def __init__(self, session: AsyncSession, service: Service, context: Context, unit: str) -> None:
        self.session = session
        self._service: Service = service
        self._context = context
        self._unit = unit
        self._drafts: list[dict[str, Any]] = []
        self._audits = 0
        self.then: list[Callable[[], None]] = []
        """Called once it is committed: to wake who looks for what it wrote."""

    @property
    def outgoing(self) -> bool:
        """Whether something was said."""
        return bool(self._drafts)

    @contextmanager
    def story(self, correlation_id: str) -> Iterator[None]:
        """What is said within belongs to this story, whatever call or timer led to it; an empty id changes nothing."""
        outer = self._context
        self._context = replace(outer, correlation_id=correlation_id or outer.correlation_id)
        try:
            yield
        finally:
            self._context = outer

    def emit(
        self,
        event: Event,
        *,
        unit: str | None = None,
        detail: dict[str, Scalar] | None = None,
        id: str | None = None,
        audited: bool = True,
    ) -> str:
        """Say a fact, with its audit row (none for a step of work that decides nothing); answers the event's id."""
        id = id or str(uuid7())
        self._add(type(event), event.key, event.to_json(), unit, id)
        if audited:
            self._audit(event.type(), event.key, unit, id, detail or {})
        return id

    def tombstone(self, event: type[Event], key: str, *, unit: str | None = None) -> None:
        """Delete a key from a compacted topic."""
        self._add(event, key, None, unit, str(uuid7()))

    def record(self, action: str, subject: str, *, unit: str | None = None, **detail: Scalar) -> None:
        """Put a fact that is no event into the audit ledger."""
        self._audit(action, subject, unit, None, detail)

    def _audit(
        self, action: str, subject: str, unit: str | None, event_id: str | None, detail: dict[str, Scalar]
    ) -> None:
        self._audits += 1
        row = AuditRecorded(
            service=self._service, number=0, action=action, subject=subject, actor=self._context.caller.actor,
            unit=unit or self._unit, at=now(), correlation_id=self._context.correlation_id, event_id=event_id,
            detail=detail,
        )  # fmt: skip
        self._add(AuditRecorded, self._service, row.to_json(), unit, str(uuid7()), audit=self._audits)

    def _add(
        self, kind: type[Event], key: str, value: bytes | None, unit: str | None, id: str, audit: int | None = None
    ) -> None:
        if value is not None and len(value) > _LARGEST_EVENT:
            raise TooLarge(f"{kind.type()} of {key[:80]} has {len(value)} bytes; {_LARGEST_EVENT} travel at most")
        headers = cloudevents.headers(kind, self._service, key, self._context, unit or self._unit, id=id)
        self._drafts.append({
            "place": len(self._drafts) + 1,
            "audit": audit,
            "topic": kind.topic.name,
            "key": key,
            "headers": [(name, content.decode()) for name, content in headers],
            "value": value.decode() if value is not None else None,
        })  # fmt: skip

    async def write_outbox(self) -> None:
        """Number and write what was said. The last statement before the commit."""
        if not self._drafts:
            return
        drafts = orjson.dumps(self._drafts).decode()
        numbers = {"rows": len(self._drafts), "audits": self._audits}
        await self.session.execute(_WRITE_OUTBOX, numbers | {"drafts": drafts})


class Once(Claim):
    """A request with an `Idempotency-Key`: key, effect and answer are one transaction, held open until the answer."""

    def __init__(self, key: str, digest: Callable[[], str], open_: AsyncExitStack) -> None:
        super().__init__(key)
        self.digest = digest
        """What was asked; known at the latest when the transaction begins."""
        self.tx: Tx | None = None
        """What was done; None while nothing was."""
        self._open = open_

    def hold(self, tx: Tx, ending: AsyncExitStack) -> None:
        """The use case is done; its transaction ends with the request."""
        self.tx = tx
        self._open.push_async_exit(ending)

    async def keep(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Write the answer beside the effect; where there was none, there is nothing to give again."""
        if self.tx:
            values = {"key": self.key, "status": status, "headers": orjson.dumps(headers).decode(), "body": body}
            await self.tx.session.execute(_KEEP_ANSWER, values)


class Database:
    """A service's own schema, reached under its own plain role."""

    def __init__(self, url: str, service: Service, *, pool: int = 5) -> None:
        self.service: Service = service
        self.engine: AsyncEngine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://", 1),
            pool_size=pool, max_overflow=pool, pool_pre_ping=True, pool_timeout=5,
            json_serializer=lambda value: orjson.dumps(value).decode(), json_deserializer=orjson.loads,
            connect_args={
                "timeout": 5, "command_timeout": 60,
                "server_settings": {
                    "search_path": service, "application_name": service,
                    "idle_in_transaction_session_timeout": "60000",
                },
            },
        )  # fmt: skip
        self.committed: list[Callable[[], None]] = []
        """Called after each commit that wrote to the outbox: the relay need not poll."""

    @asynccontextmanager
    async def transaction(self, unit: str | None = None) -> AsyncIterator[Tx]:
        """One use case. Acts in the caller's units, in the event's unit inside a handler, or in `unit`.

        In a request with an `Idempotency-Key` it commits once the answer is known, and with it. Raises AlreadyHandled
        or Repeated for a repeat.
        """
        context = current()
        async with AsyncExitStack() as open_:
            tx = await self._begin(open_, context, unit)
            yield tx
            await tx.session.flush()
            if isinstance(context.claim, Once):
                context.claim.hold(tx, open_.pop_all())
                return
            await tx.write_outbox()
        self._tell(tx)

    @asynccontextmanager
    async def once(self, key: str, digest: Callable[[], str]) -> AsyncIterator["Once"]:
        """What is done within under this claim is one transaction, committed at the end with `Once.keep`'s answer."""
        async with AsyncExitStack() as open_:
            once = Once(key, digest, open_)
            yield once
            if once.tx:
                await once.tx.write_outbox()
        if once.tx:
            self._tell(once.tx)

    @asynccontextmanager
    async def reading(self, unit: str | None = None) -> AsyncIterator[AsyncSession]:
        """Read under the same row-level security; after a transaction that is held for its answer, what it wrote."""
        context = current()
        if isinstance(context.claim, Once) and context.claim.tx:
            await self._see(context.claim.tx.session, context, unit)
            yield context.claim.tx.session
            return
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            await self._see(session, context, unit)
            yield session

    async def _begin(self, open_: AsyncExitStack, context: Context, unit: str | None) -> Tx:
        claim = context.claim
        if claim and claim.taken:
            raise RuntimeError("a handler, or a request with a key, has one transaction: its claim is already spent")
        session = await open_.enter_async_context(AsyncSession(self.engine, expire_on_commit=False))
        if claim:
            open_.push(partial(_give_back, claim))
        await open_.enter_async_context(session.begin())
        await self._see(session, context, unit)
        if claim:
            await _take(session, claim)
        return Tx(session, self.service, context, unit or _home_unit(context))

    def _tell(self, tx: Tx) -> None:
        """It is committed."""
        if tx.outgoing:
            for wake in self.committed:
                wake()
        for call in tx.then:
            call()

    @asynccontextmanager
    async def chassis(self) -> AsyncIterator[AsyncSession]:
        """For the kit's own tables, which hold nothing that a person reads."""
        async with AsyncSession(self.engine) as session, session.begin():
            yield session

    async def close(self) -> None:
        """Give all connections back; the last thing that a service does."""
        await self.engine.dispose()

    @staticmethod
    async def _see(session: AsyncSession, context: Context, unit: str | None) -> None:
        units = unit or ",".join(sorted(context.caller.units))
        await session.execute(text("SELECT set_config('app.units', :units, true)"), {"units": units})


def _home_unit(context: Context) -> str:
    units = context.caller.units
    return next(iter(units)) if len(units) == 1 else EVERY_UNIT


def _give_back(claim: Claim, kind: type[BaseException] | None, *_: object) -> None:
    """Rolled back with everything else."""
    if kind:
        claim.taken = False


async def _take(session: AsyncSession, claim: Claim) -> None:
    """Write the inbox row or the idempotency key. Raises AlreadyHandled or Repeated."""
    if isinstance(claim, Once):
        insert = "INSERT INTO idempotency (key, digest) VALUES (:key, :digest) ON CONFLICT DO NOTHING RETURNING 1"
        if (await session.execute(text(insert), {"key": claim.key, "digest": claim.digest()})).first() is None:
            raise Repeated("a request with this Idempotency-Key was done; its answer is not there: look the result up")
    elif not await inbox.take(session, claim.key, claim.place):
        raise AlreadyHandled(claim.key)
    claim.taken = True
