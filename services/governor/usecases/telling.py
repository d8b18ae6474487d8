"""Tells people of alerts: notices become courses along routes, what is due becomes messages, those are sent."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from services.governor import metrics
from services.governor.domain import message
from services.governor.domain.delivery import pause
from services.governor.domain.message import Told
from services.governor.domain.routing import EVERY_UNIT, Route, Standing, wants, what_is_due
from services.governor.domain.silence import quiet_until
from services.governor.gateway import Channels, Undelivered
from services.governor.store import alerts, messages, notices, silences
from services.governor.store import routes as store
from services.governor.store.alerts import Alert
from services.governor.store.messages import Item, Outgoing, Receiver, Shown
from services.governor.store.routes import Course
from services.kit.again import each
from services.kit.auth import allow
from services.kit.context import Caller, Context, system, use
from services.kit.db import Database, Tx
from services.kit.errors import Conflict, NotFound
from services.kit.health import Progress
from services.kit.ids import now, uuid7
from services.kit.telemetry import get_logger

log = get_logger(__name__)

_LOOK_S = 1.0
_AT_ONCE = 8
"""Messages on their way from one process; of each channel one."""
_CLAIMED = timedelta(seconds=20)
"""Longer than an attempt may take: then it is another's to send."""
_KEPT, _TIDY_S = timedelta(days=90), 3600.0
_QUIET_LOOK = timedelta(seconds=5)
"""How soon it is seen that somebody ended a silence before its time."""

_Step = Callable[[Tx], Awaitable[bool]]


class Telling:
    """The governor's messenger. Any number of them work side by side; each acts in all units."""

    def __init__(
        self, db: Database, channels: Channels, console: str, *, attempts: int, first_pause_s: float,
        beat_every_s: float = 60.0, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self._db = db
        self._channels = channels
        self._console = console
        self._attempts = attempts
        self._first_pause_s = first_pause_s
        self._beat_every = timedelta(seconds=beat_every_s)
        self._progress = progress
        self._sending: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; what is on its way then is sent again by whoever comes next."""
        try:
            with use(Context(system("governor"))):
                tidied = -_TIDY_S
                while True:
                    if time.monotonic() - tidied > _TIDY_S:
                        tidied = time.monotonic()
                        await self.tidy()
                    self._freed.clear()
                    self._say(await self.look())
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S):
                            await self._freed.wait()
        finally:
            for task in self._sending:
                task.cancel()

    async def look(self) -> str:
        """Do all that is to be done now, and begin to send what is ready; answers what of it failed, and why.

        What is ready is sent though something before it fails.
        """
        async with self._db.reading() as session:
            if not await notices.is_work(session, now()):
                return ""
        failed = await each("alerts' messages", (self._notice, self._course, self._message), self._all)
        await self._send_some()
        return "; ".join(f"{type(error).__name__}: {error}" for _, error in failed)

    def _say(self, failed: str) -> None:
        if self._progress and failed:
            self._progress.fail("alerts' messages", failed)
        elif self._progress:
            self._progress.beat("alerts' messages")

    async def _all(self, step: _Step) -> None:
        while await self._one(step):
            pass

    async def tidy(self) -> None:
        """Forget messages that ended long ago; the ledger has what they were about."""
        async with self._db.transaction() as tx:
            await messages.forget(tx.session, now() - _KEPT)

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
                raise Conflict("what this message told of was raised again since, and told by another one")
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
            route = kept.route
            allow(caller, "alert.configure", route.unit)
            told, sent = [message.trial(name, route.unit, caller.actor, at)], list[Shown]()
            for channel in dict.fromkeys(channel for step in route.steps for channel in step.channels):
                id, to = uuid7(), Receiver(channel, route.unit, 0)
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

    async def _one(self, step: _Step) -> bool:
        """One thing is one transaction: what a kill tears was not done."""
        async with self._db.transaction() as tx:
            return await step(tx)

    async def _notice(self, tx: Tx) -> bool:
        """An alert was raised: it takes its routes. It was resolved: those are told who were told of it."""
        notice = await notices.take(tx.session)
        if notice is None:
            return False
        alert = await alerts.get(tx.session, notice.alert_id)
        if alert is None or alert.episode != notice.episode:
            return True
        if notice.what == "raised":
            case, at = await alerts.case(tx.session, alert), now()
            for route in await store.of_units(tx.session, [alert.unit, EVERY_UNIT]):
                if wants(route, case):
                    begun = Course(alert.id, alert.episode, route.name, 0)
                    await store.start(tx.session, begun, alert.severity, at + timedelta(seconds=route.steps[0].after_s))
            return True
        for receiver in await messages.receivers(tx.session, alert.id, alert.episode):
            over = Item(alert.id, alert.episode, "resolved", alert.unit, alert.subject)
            await self._gather(tx, receiver, over)
        return True

    async def _course(self, tx: Tx) -> bool:
        """The time of a course's step has come."""
        at = now()
        course = await store.next_due(tx.session, at)
        if course is None:
            return False
        alert, kept = await alerts.get(tx.session, course.alert_id), await store.get(tx.session, course.route)
        assert alert and kept  # both are there as long as their course is
        quiet = quiet_until(await silences.active(tx.session, at), await alerts.case(tx.session, alert), at)
        standing = Standing(alert.episode == course.episode, alert.state, quiet, course.silenced, course.worse)
        match what_is_due(standing, course.step):
            case "over":
                await store.move(tx.session, course, course.step, None)
            case "wait":
                assert quiet
                await store.move(tx.session, course, course.step, min(quiet, at + _QUIET_LOOK), silenced=True)
            case "tell":
                await self._tell(tx, kept.route, course, alert, at)
        return True

    async def _tell(self, tx: Tx, route: Route, course: Course, alert: Alert, at: datetime) -> None:
        if course.step < len(route.steps):  # it may have become shorter meanwhile
            item = Item(alert.id, alert.episode, "raised", alert.unit, alert.subject, course.step, alert.severity)
            for channel in route.steps[course.step].channels:
                await self._gather(tx, Receiver(channel, route.unit, route.group_s), item)
        after = route.due_after(course.step + 1)
        await store.move(tx.session, course, course.step + 1, at + after if after is not None else None)

    async def _gather(self, tx: Tx, to: Receiver, item: Item) -> None:
        await messages.gather(tx.session, to, item, uuid7(), now())

    async def _message(self, tx: Tx) -> bool:
        """A message was gathered long enough: its bytes are what every attempt will send."""
        at = now()
        found = await messages.next_gathered(tx.session, at)
        if found is None:
            return False
        id, to = found
        told = await messages.contents(tx.session, id)
        if not told:
            await messages.drop(tx.session, id)
            return True
        await self._write_down(tx, id, to, told, at)
        return True

    async def _write_down(self, tx: Tx, id: UUID, to: Receiver, told: Sequence[Told], at: datetime) -> None:
        body = message.body(to.channel.kind, id, told, self._console, at).decode()
        await messages.write_down(tx.session, id, to, told, message.title(told), body, at)

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
        if outgoing.beats:
            await self._beat(outgoing)
            return
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
        body = message.body(channel.kind, outgoing.id, told, self._console, now())
        try:
            await self._channels.send(channel, outgoing.to.spoken_for, outgoing.id, body)
        except Undelivered as failure:
            reason = str(failure)[:500]
        async with self._db.transaction() as tx:
            await messages.put_off(tx.session, outgoing.id, now() + self._beat_every, reason)
        metrics.MESSAGES.labels(channel.kind, "again" if reason else "repeated").inc()

    async def _failed(self, outgoing: Outgoing, failure: Undelivered) -> None:
        final, reason = not failure.again or outgoing.attempts >= self._attempts, str(failure)[:500]
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
