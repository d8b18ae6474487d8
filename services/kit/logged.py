"""Records of `inference.logged` as its readers need them: recognised, then their heads checked, here for all."""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from .burial import Burial
from .errors import Invalid
from .stream import PartitionBatch, Record

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SKEW_S = 86_400.0
_ID_AT_MOST = 100
_LARGEST = 2**31 - 1


@dataclass(frozen=True, eq=False, slots=True)
class Origin:
    """What many inferences have in common: who answered whom, and in which mode. The same object for all of them."""

    endpoint: str
    unit: str
    use_case: str
    model: str
    version: int
    variant: str
    mode: str
    application: str


@dataclass(slots=True)
class Head:
    """What all rows of one inference have in common."""

    inference_id: str
    origin: Origin
    entity: str | None
    request_id: str | None
    received_at: datetime
    at_s: float
    """The same in seconds since the epoch."""
    latency_ms: float
    rows: int
    shadow_of: str | None = None
    """The inference that was answered, where nobody was told of this one."""
    instead_of: str | None = None
    """The variant that was to answer and failed, where this one answered in its place."""
    params: str | None = None
    """What the request set of the model, as JSON."""
    failed: str | None = None
    """Why there is no answer, where this is a shadow that failed; its rows are those that it was asked about."""


@dataclass(slots=True)
class Logged:
    """One record of the log, as far as recognising a repeat needs it."""

    record: Record
    body: Mapping[str, Any]
    writer: str
    seq: int
    replayed: bool
    """A dead letter that was given to its service again: its number was seen when it failed, so its id must tell."""

    def head(self) -> Head:
        """Raises Invalid naming the field."""
        body = self.body
        origin, id = _origin_of(body), _text(body.get("inference_id"), "inference_id")
        if not 0 < len(id) <= _ID_AT_MOST:
            raise Invalid(f"inference_id: it is empty or longer than {_ID_AT_MOST} characters", "inference_id")
        at = _moment(body.get("received_at"))
        at_s = at.timestamp()
        if at_s > time.time() + _SKEW_S:
            raise Invalid("received_at: it lies more than a day in the future", "received_at")
        return Head(
            id, origin, _text_or_none(body, "entity"), _text_or_none(body, "request_id"), at, at_s,
            _latency(body.get("latency_ms")), _count(body.get("rows"), "rows"), _text_or_none(body, "shadow_of"),
            _text_or_none(body, "instead_of"), _object_or_none(body, "params"), _text_or_none(body, "failed"),
        )  # fmt: skip


_ORIGIN = tuple(field.name for field in fields(Origin))
_said = itemgetter(*_ORIGIN)


def _origin_of(body: Mapping[str, Any]) -> Origin:
    try:
        return _known_origin(*_said(body))
    except (KeyError, TypeError):  # one is missing, or a list or an object
        return _origin(*map(body.get, _ORIGIN))


def _origin(
    endpoint: Any, unit: Any, use_case: Any, model: Any, version: Any, variant: Any, mode: Any, application: Any
) -> Origin:
    if not _NAME.fullmatch(_text(endpoint, "endpoint")):
        raise Invalid("endpoint: it is no name", "endpoint")
    return Origin(
        endpoint, _text(unit, "unit"), _text(use_case, "use_case"), _text(model, "model"), _count(version, "version"),
        _text(variant, "variant"), _text(mode, "mode"), _text(application, "application"),
    )  # fmt: skip


_known_origin = lru_cache(maxsize=4096, typed=True)(_origin)
"""Checked once for all records that say the same; by type too, as 1 and true are equal."""


def recognised(record: Record) -> Logged:
    """The record with what tells it from a repeat. Raises Invalid."""
    try:
        body = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError as error:
        raise Invalid(f"not an inference.logged: {error}") from None
    if not isinstance(body, dict):
        raise Invalid("not an inference.logged: the value is no JSON object")
    writer, seq = _text(body.get("writer"), "writer"), body.get("seq")
    if type(seq) is not int or not 0 <= seq < 2**63:
        raise Invalid("seq: it is not a whole number from 0", "seq")
    return Logged(record, body, writer, seq, record.addressee is not None)


def readable(
    batch: PartitionBatch, burial: Burial, letters: list[tuple[Record, BaseException | str]]
) -> Iterator[Logged]:
    """The records of a batch that are for this service; what is no record of the log is added to `letters`."""
    for record in batch.records:
        if record.value is None or burial.for_another(record):
            continue
        try:
            yield recognised(record)
        except Invalid as reason:
            letters.append((record, reason))


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise Invalid(f"{name}: it is missing or no text", name)
    return value


def _text_or_none(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return None if value is None else _text(value, name)


def _object_or_none(body: Mapping[str, Any], name: str) -> str | None:
    """An object, as JSON."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise Invalid(f"{name}: it is no object", name)
    return None if value is None else orjson.dumps(value).decode()


def _count(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise Invalid(f"{name}: it is not a whole number from 0 to {_LARGEST}", name)
    return value


def _latency(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (float, int)) or not isfinite(value):
        raise Invalid("latency_ms: it is not a finite number", "latency_ms")
    return float(value)


def _moment(value: Any) -> datetime:
    """In UTC, also where it names no zone."""
    try:
        at = datetime.fromisoformat(_text(value, "received_at"))
        if at.tzinfo is UTC:
            return at
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Invalid("received_at: it is not an ISO 8601 time", "received_at") from None


# What a reader that keeps no ids notes of the few inferences that were dead letters, in its inbox.


async def noted(session: AsyncSession, what: str, ids: list[str]) -> set[str]:
    """Which of these inferences `note` was told of."""
    if not ids:
        return set()
    select = "SELECT event FROM inbox WHERE event = ANY (CAST(:keys AS text[]))"
    found = await session.scalars(text(select), {"keys": [f"{what} {id}" for id in ids]})
    return {key.removeprefix(f"{what} ") for key in found}


async def note(session: AsyncSession, what: str, ids: list[str]) -> None:
    """Remember this of some inferences, for longer than their dead letters are kept."""
    if ids:
        insert = "INSERT INTO inbox (event) SELECT unnest(CAST(:keys AS text[])) ON CONFLICT DO NOTHING"
        await session.execute(text(insert), {"keys": [f"{what} {id}" for id in ids]})
