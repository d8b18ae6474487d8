"""The audit ledger: hears the rows of all services, chains them, seals the chain, and checks it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from contracts import AuditRecorded, AuditSealed, Signature
from services.governor.domain import chain
from services.governor.domain.alert import DISPUTE
from services.governor.domain.chain import End, Link, Sealed, Verification
from services.governor.gateway import CheckpointFile
from services.governor.store import alerts
from services.governor.store import ledger as store
from services.governor.store.ledger import Checkpoint, Entry, Head
from services.kit.again import each
from services.kit.alerts import alert_id, raise_alert, resolve_alert
from services.kit.cloudevents import source
from services.kit.context import Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import Forbidden, Invalid
from services.kit.http import Page, page
from services.kit.ids import now
from services.kit.inputs import as_cursor
from services.kit.signing import KeyRing, Signer, canonical
from services.kit.stream import Record
from services.kit.telemetry import get_logger

from .places import position

log = get_logger(__name__)

_LOOK_S = 1.0
_CHUNK = 500
"""Records or checkpoints in memory at a time."""
_SEALED_AT_ONCE = 5_000
"""Records under one checkpoint: its line holds a hash of each."""
_SET_BACK = "ledger-set-back"
_OWN_SEAL = frozenset({"signature", "from", "leaves"})


class Unreadable(Invalid):
    """An audit row that no service of ours wrote."""


def read_row(record: Record) -> tuple[AuditRecorded, bytes]:
    """An audit row and its canonical bytes. Raises Unreadable with the reason."""
    try:
        told = orjson.loads(record.value or b"")
        row = AuditRecorded.model_validate(told)
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise Unreadable(f"not an audit row: {str(error).splitlines()[0]}") from None
    said_by = dict(record.headers).get("ce_source", b"").decode(errors="replace")
    if row.number < 1 or record.key != row.service.encode() or said_by != source(row.service):
        raise Unreadable(f"row {row.number} of {row.service} under the key {record.key!r} from {said_by[:80]!r}")
    return row, canonical(told)


class Ledger:
    """One chain over all services' rows. Appending, sealing and checking each hold the ledger's end alone."""

    def __init__(
        self, db: Database, signer: Signer, keys: KeyRing, checkpoints: Path, *, seal_rows: int = 100,
        seal_after_s: float = 2.0, gap_alert_s: float = 60.0,
    ) -> None:  # fmt: skip
        self.db = db
        self._signer = signer
        self._keys = keys
        self.checkpoints = CheckpointFile(checkpoints)
        self._seal_rows = seal_rows
        self._seal_after_s = seal_after_s
        self._gap_alert_s = gap_alert_s
        self._appended = asyncio.Event()

    async def append(self, tx: Tx, rows: list[tuple[AuditRecorded, bytes]]) -> None:
        """Append what follows without a gap, park what does not, ignore repeats, keep what contradicts."""
        head = await store.hold_head(tx.session)
        last = await store.last_numbers(tx.session)
        ready: list[bytes] = []
        by_service: dict[str, dict[int, bytes]] = defaultdict(dict)
        for row, content in rows:
            if by_service[row.service].setdefault(row.number, content) != content:
                await self._dispute(tx, row.service, row.number, content)
        for service, heard in by_service.items():
            ready += await self._admit(tx, service, last.get(service, 0), heard)
        if ready:
            links = chain.extend(head.position, head.hash, ready)
            await store.append(tx.session, links, [AuditRecorded.from_json(link.content) for link in links])
            self._appended.set()

    async def _admit(self, tx: Tx, service: str, last: int, heard: dict[int, bytes]) -> list[bytes]:
        known = await store.stored(tx.session, service, [n for n in heard if n <= last])
        for number, content in known.items():
            if heard[number] != content:
                await self._dispute(tx, service, number, heard[number])
        parked = await store.waiting(tx.session, service)
        for number in heard.keys() & parked.keys():
            if heard[number] != parked[number]:
                await self._dispute(tx, service, number, heard[number])
        ready, waiting = chain.in_order(last, heard | parked)
        if ready:
            await store.move_writer(tx.session, service, ready[-1])
        if fresh := {n: heard[n] for n in waiting if n not in parked}:
            await store.park(tx.session, service, fresh)
        return [(heard | parked)[number] for number in ready]

    async def _dispute(self, tx: Tx, service: str, number: int, content: bytes) -> None:
        """The first row stands; a different one under its number is an attack, or a database that was set back."""
        if await store.dispute(tx.session, service, number, content):
            raise_alert(
                tx, DISPUTE, service, "critical", f"{service} recorded two different facts as number {number}",
                "the audit ledger holds the first; the other is kept as evidence in ledger_dispute",
                f"Find out whether {service}'s database was set back, or somebody else writes in its name; "
                "then close this alert with what was found.", unit="*",
            )  # fmt: skip

    async def watch(self) -> None:
        """Seal, and tell of gaps, for as long as the service runs."""
        duties: list[Callable[[], Awaitable[object]]] = [self.tell_gaps, self.seal_when_due]
        with use(Context(system("governor"))):
            await self._attend([self._compare_with_file, *duties])
            while True:
                await self._attend(duties)
                try:
                    async with asyncio.timeout(_LOOK_S * 5):
                        await self._appended.wait()
                except TimeoutError:
                    continue
                self._appended.clear()
                await asyncio.sleep(min(_LOOK_S, self._seal_after_s))

    @staticmethod
    async def _attend(duties: list[Callable[[], Awaitable[object]]]) -> None:
        """Every duty has its turn, whatever becomes of the one before. Raises the first failure after that."""

        async def do(duty: Callable[[], Awaitable[object]]) -> None:
            await duty()

        for _, failure in await each("ledger", duties, do):
            raise failure

    async def seal_when_due(self) -> AuditSealed | None:
        """Seal once enough rows, or old enough ones, wait for it. A seal's own audit row needs no seal."""
        async with self.db.reading() as session:
            head = await store.head(session)
            unsealed = await store.unsealed(session, head.sealed)
        due = unsealed and (unsealed[0] >= self._seal_rows or unsealed[1] >= self._seal_after_s)
        sealed = await self.seal() if due else None
        if unsealed and (sealed is None or unsealed[0] > _SEALED_AT_ONCE):
            self._appended.set()  # there is more to seal
        return sealed

    async def seal(self) -> AuditSealed | None:
        """Sign the ledger's end, or what is to be sealed at once of a long way to it: the rest is sealed next.

        Into the file first, so that no checkpoint can be lost with the database.
        """
        async with self.db.transaction() as tx:
            head = await self._adopted(tx, await store.hold_head(tx.session))
            if head.position == head.sealed:
                return None
            entries = await store.chunk(tx.session, head.sealed, _SEALED_AT_ONCE)
            end = entries[-1] if len(entries) == _SEALED_AT_ONCE else head
            unsigned = AuditSealed(
                ledger=chain.LEDGER, position=end.position, head=end.hash, sealed_at=now(),
                signature=Signature(key_id="", value=""),
            )  # fmt: skip
            signature = self._signer.sign(canonical(unsigned, without=frozenset({"signature"})))
            event = unsigned.model_copy(update={"signature": signature})
            line = event.model_dump(mode="json") | {
                "from": head.sealed, "leaves": [chain.leaf(e.content) for e in entries if e.position <= end.position]
            }  # fmt: skip
            await asyncio.to_thread(self.checkpoints.append, [line])
            await store.seal(tx.session, line, event.sealed_at)
            tx.emit(event, unit="*", detail={"position": event.position, "head": event.head})
        return event

    async def _adopted(self, tx: Tx, head: Head) -> Head:
        """Take over checkpoints of the file that a crash kept out of the database."""
        for line in await asyncio.to_thread(self.checkpoints.after, head.sealed):
            fits = line.get("from") == head.sealed and line["position"] <= head.position and self._is_trusted(line)
            if fits and await store.hash_at(tx.session, line["position"]) == line["head"]:
                event = AuditSealed.model_validate(line)
                await store.seal(tx.session, line, event.sealed_at)
                tx.emit(event, unit="*", detail={"position": event.position, "head": event.head})
                head = replace(head, sealed=event.position)
        return head

    async def tell_gaps(self) -> None:
        """Alert where a service's number is missing for long, and when it came after all."""
        async with self.db.transaction() as tx:
            for service, missing, rows in await store.gaps(tx.session, self._gap_alert_s):
                await store.tell_gap(tx.session, service, True)
                raise_alert(
                    tx, "ledger-gap", service, "critical", f"audit row {missing} of {service} is missing",
                    f"{rows} later rows wait for it and are not in the ledger yet",
                    f"Look at {service}'s outbox and at dlq.audit.recorded; they go in once number {missing} comes.",
                    unit="*",
                )  # fmt: skip
            for service in await store.closed_gaps(tx.session):
                await store.tell_gap(tx.session, service, False)
                resolve_alert(tx, "ledger-gap", service, "the missing rows came", unit="*")

    async def verify(self) -> dict[str, Any]:
        """Walk the whole ledger against its checkpoints, those in the file included, and its copied columns."""
        async with self.db.reading() as session:
            head = await store.head(session)
            last, numbers = await store.last_checkpoint(session), await store.last_numbers(session)
        seals: dict[int, list[Sealed]] = defaultdict(list)
        async for seal in self._sealed():
            seals[seal.position].append(seal)
        walk = Verification(seals, End(head.position, head.hash, numbers))
        async for entries in self._chunks():
            for entry in entries:
                walk.see(Link(entry.position, entry.hash, entry.content), vars(entry))
        fault = walk.finish()
        if fault is None and head.sealed > last:
            fault = (last + 1, f"the ledger is marked as sealed to {head.sealed}, its last checkpoint is at {last}")
        return {
            "ok": fault is None, "records": walk.position, "head": walk.head, "checkpoints": len(walk.seals),
            "sealed_to": walk.proved, "says": fault[1] if fault else chain.conclusion(walk.position, walk.proved),
            "first_bad": {"position": fault[0], "reason": fault[1]} if fault else None,
        }  # fmt: skip

    async def page(self, limit: int, cursor: str | None, **filters: Any) -> Page[Entry]:
        """Records that fit, the newest first. Raises Invalid for a cursor that was not made here."""
        before = position(cursor)
        async with self.db.reading() as session:
            found = await store.page(session, limit=limit + 1, before=before, **filters)
        return page(found, limit, as_cursor(found[limit - 1].position) if found[limit:] else None)

    async def export(self) -> AsyncIterator[bytes]:
        """Every record as a JSON line, for the offline verifier: its bytes as they were chained."""
        async for entries in self._chunks():
            yield b"".join(
                orjson.dumps({"position": entry.position, "hash": entry.hash, "record": entry.content.decode()}) + b"\n"
                for entry in entries
            )

    def checkpoint_file(self) -> Iterator[bytes]:
        """The signed checkpoints as they lie outside the database."""
        return self.checkpoints.chunks()

    async def _chunks(self) -> AsyncIterator[list[Entry]]:
        """All records, a bounded number at a time. No transaction is open while a slow reader takes them."""
        after = -(2**62)
        while True:
            async with self.db.reading() as session:
                entries = await store.chunk(session, after, _CHUNK)
            if not entries:
                return
            yield entries
            after = entries[-1].position

    async def _sealed(self) -> AsyncIterator[Sealed]:
        """All checkpoints, of the database and of the file."""
        after = -(2**62)
        while True:
            async with self.db.reading() as session:
                kept = await store.checkpoints(session, after, _CHUNK)
            if not kept:
                break
            for checkpoint in kept:
                yield self._kept(checkpoint)
            after = kept[-1].position
        lines = self.checkpoints.lines()
        while some := await asyncio.to_thread(lambda: list(islice(lines, _CHUNK))):
            for line in some:
                yield self._seal(line)

    def _kept(self, checkpoint: Checkpoint) -> Sealed:
        """A checkpoint whose columns say something else than its document is not trusted."""
        told = self._seal(checkpoint.document)
        same = (told.position, told.head) == (checkpoint.position, checkpoint.head)
        return Sealed(checkpoint.position, checkpoint.head, told.trusted and same)

    def _seal(self, line: dict[str, Any]) -> Sealed:
        position, head = line.get("position"), line.get("head")
        if type(position) is int and isinstance(head, str):
            return Sealed(position, head, position > 0 and self._is_trusted(line))
        return Sealed(1, "", False)

    async def _compare_with_file(self) -> None:
        """At start: a file that seals something else than the database holds says that one of them was set back."""
        last = await asyncio.to_thread(self.checkpoints.last)
        position = last.get("position") if last else 0
        async with self.db.transaction() as tx:
            if type(position) is not int or (last and await store.hash_at(tx.session, position) != last.get("head")):
                _tell_set_back(tx, f"the last checkpoint in {self.checkpoints.path.name} seals record "
                                   f"{position}, which is another or missing in the database")  # fmt: skip
                return
            if missing := await store.checkpoints(tx.session, position, _CHUNK, leaves=True):
                _tell_set_back(tx, f"{self.checkpoints.path.name} ends at {position} and lacks later checkpoints")
            elif await _is_raised(tx):
                resolve_alert(tx, _SET_BACK, chain.LEDGER, "file and database agree again", unit="*")
            while missing:
                await asyncio.to_thread(self.checkpoints.append, [checkpoint.document for checkpoint in missing])
                missing = await store.checkpoints(tx.session, missing[-1].position, _CHUNK, leaves=True)

    def _is_trusted(self, line: dict[str, Any]) -> bool:
        try:
            signature = Signature.model_validate(line.get("signature"))
            self._keys.verify(canonical(line, without=_OWN_SEAL), signature, owner="governor")
        except (Forbidden, ValidationError):
            return False
        return True


async def _is_raised(tx: Tx) -> bool:
    known = await alerts.get(tx.session, alert_id(_SET_BACK, chain.LEDGER))
    return known is not None and known.state != "resolved"


def _tell_set_back(tx: Tx, detail: str) -> None:
    raise_alert(
        tx, _SET_BACK, chain.LEDGER, "critical", "the audit ledger is not what was sealed", detail,
        "Verify the ledger (fairlead audit verify) and find out who restored or changed the database or the file.",
        unit="*",
    )  # fmt: skip
