"""Tells people of alerts: what is due becomes messages, and those are sent, again where that failed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from services.governor import metrics
from services.governor.domain import message
from services.governor.domain.delivery import pause
from services.governor.domain.message import Told
from services.governor.domain.routing import Channel
from services.governor.gateway import Channels, Undelivered
from services.governor.store import messages, notices, silences
from services.governor.store import routes as store
from services.governor.store.messages import Outgoing, Receiver, Shown
from services.kit.again import each
from services.kit.auth import allow
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import Conflict, NotFound
from services.kit.health import Progress
from services.kit.ids import now, uuid7
from services.kit.telemetry import get_logger

from .aside import Aside
from .courses import Courses

log = get_logger(__name__)

_LOOK_S = 1.0
_AT_ONCE = 8
"""Messages on their way from one process; of each channel one."""
_CLAIMED = timedelta(seconds=20)
"""Longer than an attempt may take: then it is another's to send."""
_KEPT, _TIDY_S, _COUNT_S = timedelta(days=90), 3600.0, 30.0

_Row = TypeVar("_Row")


@dataclass
class _Turn:
    """One row's turn."""

    key: str = ""
    """Empty while there is none."""


class Telling:
    """The governor's messenger. Any number of them work side by side; each acts in all units."""

    def __init__(
        self, db: Database, channels: Channels, console: str, *, attempts: int, first_pause_s: float,
        beat_every_s: float = 60.0, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self._db = db
        self.courses = Courses(db)
        self._channels = channels
        self._console = console
        self._attempts = attempts
        self._first_pause_s = first_pause_s
        self._beat_every = timedelta(seconds=beat_every_s)
        self._progress = progress
        self._aside, self._stuck = Aside(), ""
        self._sending: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; what is on its way then is sent again by whoever comes next."""
        try:
            with use(Context(system("governor"))):
                tidied = counted = -_TIDY_S
                while True:
                    if time.monotonic() - counted > _COUNT_S:
                        counted = time.monotonic()
                        await each("routes of alerts", ["count"], lambda _: self.courses.count())
                    if time.monotonic() - tidied > _TIDY_S:
                        tidied = time.monotonic()
                        await each("old alerts' messages", ["forget"], lambda _: self.tidy())
                    self._freed.clear()
                    await self.look()
                    self._say()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S):
                            await self._freed.wait()
        finally:
            for task in self._sending:
                task.cancel()

    async def look(self) -> str:
        """Do all that is to be done now, and begin to send what is ready; answers why some of it lies aside.

        A row that fails holds up no other, and what is ready is sent though something before it fails.
        """
        async with self._db.reading() as session:
            if not await notices.is_work(session, now()):
                self._aside.clear()
                self._stuck = ""
                metrics.ASIDE.set(0)
                return ""
        failed = [
            *await self._all(self.courses.next_notice, self.courses.notice),
            *await self._all(self.courses.next_course, self.courses.course),
            *await self._all(self._next_message, self._message),
        ]
        await self._send_some()
        self._stuck, reasons = "; ".join(failed), self._aside.reasons()
        metrics.ASIDE.set(len(self._aside))
        return "; ".join(dict.fromkeys([*failed, *reasons]))

    def _say(self) -> None:
        """One row that lies aside is no reason to take a governor out of service: a metric tells of it."""
        if self._progress and self._stuck:
            self._progress.fail("alerts' messages", self._stuck)
        elif self._progress:
            self._progress.beat("alerts' messages")

    async def _all(
        self,
        take: Callable[[Tx, list[str]], Awaitable[tuple[str, _Row] | None]],
        act: Callable[[Tx, _Row], Awaitable[None]],
    ) -> list[str]:
        """Do this with every row; answers why none could be taken. One thing is one transaction: what a kill tears was
        not done. One that fails is put aside."""
        turns = [_Turn()]

        async def one(turn: _Turn) -> None:
            async with self._db.transaction() as tx:
                if (taken := await take(tx, self._aside.keys())) is None:
                    return
                turn.key, row = taken
                self._aside.begin(turn.key)
                turns.append(_Turn())
                await act(tx, row)
            self._aside.done(turn.key)

        failed: list[str] = []
        for turn, error in await each("alerts' messages", turns, one):
            reason = f"{type(error).__name__}: {error}"
            self._aside.failed(turn.key, reason) if turn.key else failed.append(reason)
        return failed

    async def tidy(self) -> None:
        """Forget messages and silences that ended long ago; the ledger has what they were about."""
        async with self._db.transaction() as tx:
            await messages.forget(tx.session, now() - _KEPT)
            await silences.forget(tx.session, now() - _KEPT)

    async def send_again(self, caller: Caller, id: UUID) -> Shown:
        """Try a message anew that failed for good: what it is about, as that stands now.

        Raises NotFound, Forbidden, and Conflict where it has not failed or says nothing that still counts.
        """
        at = now()
        async with self._db.transaction() as tx:
            if (found := await messages.hold(tx.session, id)) is None:
                raise NotFound(f"there is no message {id}")
            shown, to = found
            allow(caller, "alert.configure", shown.unit)
            if shown.state != "failed":
                raise Conflict(f"this message has not failed: it is {shown.state}")
            if not (told := await messages.contents(tx.session, id)):
                raise Conflict(
                    "this message was a test, or what it told of was raised again since and is told by another"
                )
            await self._write_down(tx, id, to, told, at)
            tx.record("alert.tried-again", shown.subject, unit=shown.unit, message_id=str(id), channel=to.channel.label)
            again = await messages.hold(tx.session, id)
        assert again
        return again[0]

    async def test(self, caller: Caller, name: str) -> list[Shown]:
        """Send something to every channel of a route that says it is a test; no step is waited for.

        Raises NotFound and Forbidden.
        """
        at = now()
        async with self._db.transaction() as tx:
            if (kept := await store.get(tx.session, name)) is None:
                raise NotFound(f"there is no route {name}")
            allow(caller, "alert.configure", kept.unit)
            if (route := kept.route) is None:
                raise Conflict(f"route {name}: {kept.problem}: set it anew, or remove it")
            told, sent = [message.trial(name, route.unit, caller.actor, at)], list[Shown]()
            for channel in dict.fromkeys(channel for step in route.steps for channel in step.channels):
                id, to = uuid7(), Receiver.of(channel, route.unit, 0)
                await messages.begin(tx.session, to, id, route.unit, name, at)
                await self._write_down(tx, id, to, told, at)
                found = await messages.hold(tx.session, id)
                assert found
                sent.append(found[0])
            tx.record("alert.tested", name, unit=route.unit, messages=len(sent))
        return sent

    async def settle(self) -> None:
        """Wait for what is on its way."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def _next_message(self, tx: Tx, aside: Sequence[str]) -> tuple[str, tuple[UUID, Receiver]] | None:
        found = await messages.next_gathered(tx.session, now(), aside)
        return (str(found[0]), found) if found else None

    async def _message(self, tx: Tx, gathered: tuple[UUID, Receiver]) -> None:
        """A message was gathered long enough: its bytes are what every attempt will send."""
        id, to = gathered
        if told := await messages.contents(tx.session, id):
            await self._write_down(tx, id, to, told, now())
        else:
            await messages.drop(tx.session, id)

    async def _write_down(self, tx: Tx, id: UUID, to: Receiver, told: Sequence[Told], at: datetime) -> None:
        body = self._body(to.channel, id, told, at).decode()
        await messages.write_down(tx.session, id, to, told, message.title(told), body, at)

    def _body(self, channel: Channel, id: UUID, told: Sequence[Told], at: datetime) -> bytes:
        """Nothing for one that cannot be read: sending that fails."""
        return b"" if channel.kind == "unreadable" else message.body(channel.kind, id, told, self._console, at)

    async def _send_some(self) -> None:
        if (room := _AT_ONCE - len(self._sending)) <= 0:
            return
        at = now()
        async with self._db.transaction() as tx:
            claimed = await messages.claim(tx.session, at, at + _CLAIMED, room)
        for outgoing in claimed:
            task = asyncio.create_task(self._send(outgoing), name=f"alert message {outgoing.id}")
            self._sending.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._freed.set()
        if not task.cancelled() and (error := task.exception()):  # it stays claimed, and is sent again after that
            log.error("a message's end is not known", message=task.get_name(), exc_info=error)

    async def _send(self, outgoing: Outgoing) -> None:
        """An attempt that fails in a way that nobody thought of is one of many, too: its channel goes on."""
        attempt = self._beat if outgoing.beats else self._attempt
        for _, error in await each("alert message", [outgoing.id], lambda _: attempt(outgoing)):
            await self._failed(outgoing, Undelivered(f"an error of this platform ({type(error).__name__})"))

    async def _attempt(self, outgoing: Outgoing) -> None:
        channel = outgoing.to.channel
        try:
            untaken = await self._channels.send(channel, outgoing.to.spoken_for, outgoing.id, outgoing.body)
        except Undelivered as failure:
            await self._failed(outgoing, failure)
            return
        at = now()
        async with self._db.transaction() as tx:
            await messages.sent(tx.session, outgoing.id, at, untaken)
            _record(tx, "alert.told", outgoing, untaken or None)
            if channel.kind == "alertmanager":
                await messages.beat(tx.session, outgoing, uuid7(), at, at + self._beat_every)
        metrics.MESSAGES.labels(channel.kind, "sent").inc()

    async def _beat(self, outgoing: Outgoing) -> None:
        """Say again what is open, as it is now: nothing of it need be kept, and one that fails is one of many.

        It is claimed as all messages of its channel are, so it never overtakes a resolution.
        """
        async with self._db.transaction() as tx:
            if not (told := await messages.still_open(tx.session, outgoing)):
                await messages.drop(tx.session, outgoing.id)
                return
        channel, reason = outgoing.to.channel, ""
        body = self._body(channel, outgoing.id, told, now())
        try:
            await self._channels.send(channel, outgoing.to.spoken_for, outgoing.id, body)
        except Undelivered as failure:
            reason = str(failure)[:500]
        async with self._db.transaction() as tx:
            await messages.put_off(tx.session, outgoing.id, now() + self._beat_every, reason)
        metrics.MESSAGES.labels(channel.kind, "again" if reason else "repeated").inc()

    async def _failed(self, outgoing: Outgoing, failure: Undelivered) -> None:
        is_last = not failure.again or outgoing.attempts >= self._attempts
        final, reason = is_last and not outgoing.beats, str(failure)[:500]
        async with self._db.transaction() as tx:
            if final:
                await messages.failed(tx.session, outgoing.id, now(), reason)
                _record(tx, "alert.untold", outgoing, reason)
            else:
                until = now() + pause(outgoing.attempts, self._first_pause_s)
                await messages.put_off(tx.session, outgoing.id, until, reason)
        metrics.MESSAGES.labels(outgoing.to.channel.kind, "failed" if final else "again").inc()
        log.warning(
            "a message about alerts did not arrive", message=str(outgoing.id), channel=outgoing.to.channel.label,
            reason=reason, attempts=outgoing.attempts, final=final,
        )  # fmt: skip


def _record(tx: Tx, action: str, outgoing: Outgoing, reason: str | None = None) -> None:
    tx.record(
        action, outgoing.subject, unit=outgoing.unit, message_id=str(outgoing.id), channel=outgoing.to.channel.label,
        attempts=outgoing.attempts, reason=reason,
    )  # fmt: skip
