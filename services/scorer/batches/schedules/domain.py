"""A standing order as a value, and what is due of it."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import islice
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts import Version
from services.kit.errors import Invalid

from ..places import Output, Place

_COUNTED = 10_000
"""Missed times are counted up to this."""


class Arrives(BaseModel):
    """Files below a folder of an approved object store, each as soon as it is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    prefix: str


class Order(BaseModel):
    """`cron` with `input`, whose path may hold `{date}`, or `arrives`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str = Field(min_length=1)
    cron: str | None = Field(default=None, max_length=200)
    timezone: str = Field(default="UTC", max_length=100)
    """By which clock `cron` and `{date}` are read, such as Europe/Berlin."""
    input: Place | None = None
    arrives: Arrives | None = None
    output: Output | None = None
    version: Version | None = None
    """Of the endpoint; None: its champion at each time."""

    @model_validator(mode="after")
    def _is_one(self) -> "Order":
        if (self.cron is None) == (self.arrives is None):
            raise ValueError("send one of cron, with input, and arrives")
        if (self.cron is None) != (self.input is None):
            raise ValueError("cron needs an input, and arrives takes none: its files are the input")
        return self

    def check(self, now: datetime) -> None:
        """Raises Invalid for a cron expression that says nothing, and an output that would be an input."""
        self.next_at(now)
        watched, output = self.arrives, self.output
        if watched is None or output is None or watched.connection != output.connection:
            return
        if output.path.startswith(watched.prefix.rstrip("/") + "/"):
            raise Invalid("output.path: it lies where files arrive: each result would be scored again", "output.path")

    def next_at(self, after: datetime) -> datetime | None:
        """The first time after a moment; None where it waits for files. Raises Invalid."""
        return None if self.cron is None else next_time(self.cron, after, _zone(self.timezone))

    def input_at(self, at: datetime) -> Place:
        """The file of one time."""
        assert self.input is not None
        day = at.astimezone(_zone(self.timezone))
        return self.input.model_copy(update={"path": self.input.path.replace("{date}", f"{day:%Y-%m-%d}")})


@dataclass(frozen=True)
class Schedule:
    """A standing order and where it stands."""

    id: UUID
    unit: str
    endpoint: str
    application: str
    said: str
    """The `Order` as JSON."""
    state: Literal["active", "paused"]
    next_at: datetime | None
    """Of a cron expression: the first time that was not run."""
    missed: int
    """Times that passed while nobody could run them."""
    reason: str | None
    """Why it cannot be followed now."""
    created_at: datetime

    @property
    def order(self) -> Order:
        return Order.model_validate_json(self.said)


@dataclass(frozen=True)
class Due:
    """One time or one file of a schedule."""

    schedule: Schedule
    key: str
    place: Place
    version: str | None = None
    """Of a file that arrived: another one is another file."""
    next_at: datetime | None = None
    """Of a time: the one after it."""
    missed: int = 0
    """Times before it that nobody could run."""


@dataclass(frozen=True)
class Run:
    """What a time or a file became: a batch, or the reason why not."""

    key: str
    batch: UUID | None
    reason: str | None
    at: datetime


_MEMBERS = 5


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(f"timezone: {name!r} is none, such as Europe/Berlin", "timezone") from None


def next_time(cron: str, after: datetime, zone: tzinfo) -> datetime:
    """The first time after a moment, UTC; one that a clock's change leaves out comes when the clock goes on. Raises
    Invalid."""
    try:
        if len(cron.split()) != _MEMBERS:  # CronSim would take a sixth one for seconds
            raise CronSimError(f"it has {len(cron.split())}")
        return next(CronSim(cron, after.astimezone(zone))).astimezone(UTC)
    except (CronSimError, StopIteration) as error:
        raise Invalid(f"cron: {cron[:100]!r} is no cron expression of five members: {error}"[:300], "cron") from None


def due(order: Order, first: datetime, now: datetime) -> tuple[datetime, int]:
    """Of the times from `first` to now, the last one and how many were missed before it; `first` is one of them."""
    assert order.cron is not None
    last, missed = first, 0
    for time in islice(CronSim(order.cron, first.astimezone(_zone(order.timezone))), _COUNTED):
        if (at := time.astimezone(UTC)) > now:
            break
        last, missed = at, missed + 1
    return last, missed
