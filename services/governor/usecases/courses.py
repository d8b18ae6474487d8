"""How alerts go along routes: notices become courses, and what is due on one is gathered for its receivers."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.governor import metrics
from services.governor.domain.routing import EVERY_UNIT, Route, Standing, wants, what_is_due
from services.governor.domain.silence import quiet_until
from services.governor.store import alerts, messages, notices, silences
from services.governor.store import routes as store
from services.governor.store.alerts import Alert
from services.governor.store.messages import Item, Receiver
from services.governor.store.notices import Notice
from services.governor.store.routes import Course
from services.kit.db import Database, Tx
from services.kit.ids import now, uuid7
from services.kit.telemetry import get_logger

log = get_logger(__name__)

_QUIET_LOOK = timedelta(seconds=5)
"""How soon it is seen that somebody ended a silence before its time."""
_UNREADABLE_LOOK = timedelta(minutes=5)
"""How soon it is seen that somebody set a route anew that could not be read."""


class Courses:
    """What becomes of notices and courses; each step is within a transaction of the one who asks."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._unreadable: list[str] = []

    async def count(self) -> None:
        """Say how many routes lead nowhere because this version cannot read them."""
        async with self._db.reading() as session:
            names = await store.unreadable(session)
        metrics.UNREADABLE.set(len(names))
        if names and names != self._unreadable:
            log.error("routes of alerts cannot be read, and tell nobody", routes=names)
        self._unreadable = names

    async def next_notice(self, tx: Tx, aside: Sequence[str]) -> tuple[str, Notice] | None:
        """The oldest that nobody holds and that is not among these, by its key."""
        notice = await notices.take(tx.session, aside)
        return (str(notice.number), notice) if notice else None

    async def notice(self, tx: Tx, notice: Notice) -> None:
        """An alert was raised: it takes its routes. It was resolved: those are told who were told of it."""
        alert = await alerts.get(tx.session, notice.alert_id)
        if alert is None or alert.episode != notice.episode:
            return
        if notice.what == "raised":
            case, at = await alerts.case(tx.session, alert), now()
            for kept in await store.of_units(tx.session, [alert.unit, EVERY_UNIT]):
                if kept.route is None or wants(kept.route, case):  # what cannot be read may want it once it is mended
                    begun, first = Course(alert.id, alert.episode, kept.name, 0), kept.route and kept.route.due_after(0)
                    await store.start(tx.session, begun, alert.severity, at + (first or timedelta()))
            return
        for receiver in await messages.receivers(tx.session, alert.id, alert.episode):
            over = Item(alert.id, alert.episode, "resolved", alert.unit, alert.subject)
            await self._gather(tx, receiver, over)

    async def next_course(self, tx: Tx, aside: Sequence[str]) -> tuple[str, Course] | None:
        """One that is due, that nobody holds and that is not among these, by its key."""
        course = await store.next_due(tx.session, now(), aside)
        return (course.key, course) if course else None

    async def course(self, tx: Tx, course: Course) -> None:
        """The time of a course's step has come."""
        at = now()
        alert, kept = await alerts.get(tx.session, course.alert_id), await store.get(tx.session, course.route)
        assert alert and kept  # both are there as long as their course is
        case = await alerts.case(tx.session, alert)
        quiet = quiet_until(await silences.active(tx.session, at), case, at)
        standing = Standing(alert.episode == course.episode, alert.state, quiet, course.silenced, course.worse)
        match what_is_due(standing, course.step):
            case "over":
                await store.move(tx.session, course, course.step, None)
            case "wait":
                assert quiet
                await store.move(tx.session, course, course.step, min(quiet, at + _QUIET_LOOK), silenced=True)
            case "tell":
                if kept.route is None:
                    await self._wait(tx, course, alert, at)
                elif course.step or wants(kept.route, case):
                    await self._tell(tx, kept.route, course, alert, at)
                else:  # its lists were changed before anybody was told
                    await store.move(tx.session, course, 0, None)

    async def _wait(self, tx: Tx, course: Course, alert: Alert, at: datetime) -> None:
        """Until somebody set the route anew, or nothing is left to be told."""
        until = None if alert.state == "resolved" else at + _UNREADABLE_LOOK
        await store.move(tx.session, course, course.step, until, silenced=course.silenced)

    async def _tell(self, tx: Tx, route: Route, course: Course, alert: Alert, at: datetime) -> None:
        if course.step < len(route.steps):  # it may have become shorter meanwhile
            item = Item(alert.id, alert.episode, "raised", alert.unit, alert.subject, course.step, alert.severity)
            for channel in route.steps[course.step].channels:
                await self._gather(tx, Receiver.of(channel, route.unit, route.group_s), item)
        after = route.due_after(course.step + 1)
        await store.move(tx.session, course, course.step + 1, at + after if after is not None else None)

    async def _gather(self, tx: Tx, to: Receiver, item: Item) -> None:
        await messages.gather(tx.session, to, item, uuid7(), now())
