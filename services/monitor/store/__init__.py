"""All SQL of the monitor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import DeploymentChanged, DriftDetected, ModelSchema, MonitorReported, MonitorSettings
from services.kit.errors import NotFound

from ..domain.watch import Watch
from ..domain.windows import Part

Dimension = Literal["data", "performance"]
"""What an alarm is about: what the model sees, or how right it is."""

# Endpoints and their versions


@dataclass(frozen=True)
class Endpoint:
    """What is watched now, with the settings that hold."""

    endpoint: str
    unit: str
    use_case: str
    serving: bool
    model: str
    version: int
    settings: MonitorSettings
    overridden: bool
    changed_at: datetime

    @classmethod
    def of(cls, row: Any) -> "Endpoint":
        """From its row: what a person overrode holds over what the deployment says."""
        settings = MonitorSettings.model_validate(row.settings | (row.override or {}))
        return cls(
            row.endpoint, row.unit, row.use_case, row.serving, row.model, row.version, settings, bool(row.override),
            row.changed_at,
        )  # fmt: skip


@dataclass(frozen=True)
class VersionRow:
    """A version that serves or served."""

    endpoint: str
    version: int
    model: str
    unit: str
    baseline_digest: str | None
    schema: ModelSchema


_SAVE_ENDPOINT = text("""
    INSERT INTO endpoint AS known (endpoint, unit, use_case, revision, serving, model, version, settings)
    VALUES (:endpoint, :unit, :use_case, :revision, :serving, :model, :version, CAST(:settings AS jsonb))
    ON CONFLICT (endpoint) DO UPDATE SET unit = excluded.unit, use_case = excluded.use_case,
        revision = excluded.revision, serving = excluded.serving, model = excluded.model, version = excluded.version,
        settings = excluded.settings, changed_at = now()
    WHERE known.revision < excluded.revision
    RETURNING 1
""")
_SAVE_VERSION = text("""
    INSERT INTO version (endpoint, version, unit, model, baseline_digest, model_schema)
    VALUES (:endpoint, :version, :unit, :model, :baseline, CAST(:schema AS jsonb))
    ON CONFLICT (endpoint, version) DO UPDATE SET unit = excluded.unit, model = excluded.model,
        baseline_digest = excluded.baseline_digest, model_schema = excluded.model_schema
""")


async def save_desired(session: AsyncSession, event: DeploymentChanged) -> bool:
    """Keep an endpoint's desired state; answers whether it is newer than what was known."""
    champion = event.variants[0] if event.variants else None
    values = {
        "endpoint": event.endpoint, "unit": event.unit, "use_case": event.use_case, "revision": event.revision,
        "serving": event.state == "serving" and champion is not None,
        "model": champion.model if champion else "", "version": champion.version if champion else 0,
        "settings": event.monitor.model_dump_json(),
    }  # fmt: skip
    newer = (await session.execute(_SAVE_ENDPOINT, values)).first() is not None
    for variant in event.variants:
        row = {
            "endpoint": event.endpoint, "version": variant.version, "unit": event.unit, "model": variant.model,
            "baseline": variant.baseline_digest, "schema": variant.model_schema.model_dump_json(),
        }  # fmt: skip
        await session.execute(_SAVE_VERSION, row)
    return newer


async def stop_serving(session: AsyncSession, name: str) -> None:
    """The endpoint is gone for good."""
    await session.execute(text("UPDATE endpoint SET serving = false WHERE endpoint = :e"), {"e": name})


async def endpoint(session: AsyncSession, name: str) -> Endpoint:
    """Raises NotFound."""
    row = (await session.execute(text("SELECT * FROM endpoint WHERE endpoint = :e"), {"e": name})).first()
    if row is None:
        raise NotFound(f"there is no monitor of an endpoint {name}")
    return Endpoint.of(row)


async def endpoints(session: AsyncSession, after: str, limit: int) -> list[Endpoint]:
    """By name, those after `after`, in the caller's units."""
    select = "SELECT * FROM endpoint WHERE endpoint > :after ORDER BY endpoint LIMIT :limit"
    return [Endpoint.of(row) for row in await session.execute(text(select), {"after": after, "limit": limit})]


async def changed(session: AsyncSession, since: datetime | None, after: str, limit: int) -> list[Endpoint]:
    """Of all endpoints those that changed at or after `since`, by name, those after `after`."""
    select = """
        SELECT * FROM endpoint
        WHERE endpoint > :after AND (CAST(:since AS timestamptz) IS NULL OR changed_at >= :since)
        ORDER BY endpoint LIMIT :limit
    """
    rows = await session.execute(text(select), {"since": since, "after": after, "limit": limit})
    return [Endpoint.of(row) for row in rows]


async def clock(session: AsyncSession) -> datetime:
    """The database's own, by which changes are dated."""
    return (await session.scalars(text("SELECT now()"))).one()


async def override(session: AsyncSession, name: str, changed: Mapping[str, Any]) -> None:
    """Settings that hold from now on whatever is deployed; those that are not named go on following the deployments."""
    kept = "coalesce(override, '{}') || CAST(:s AS jsonb)"
    update = f"UPDATE endpoint SET override = {kept}, changed_at = now() WHERE endpoint = :e"
    await session.execute(text(update), {"e": name, "s": orjson.dumps(changed).decode()})


async def version(session: AsyncSession, name: str, number: int) -> VersionRow | None:
    """None for one that no deployment has named yet."""
    select = "SELECT * FROM version WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": name, "v": number})).first()
    if row is None:
        return None
    schema = ModelSchema.model_validate(row.model_schema)
    return VersionRow(name, number, row.model, row.unit, row.baseline_digest, schema)


# Windows


@dataclass(frozen=True)
class WindowKey:
    """One window of one version."""

    endpoint: str
    version: int
    unit: str
    start: datetime
    end: datetime


_ADD_PART = text("""
    INSERT INTO part (endpoint, version, unit, start, "end", partition, first_offset, data)
    VALUES (:endpoint, :version, :unit, :start, :end, :partition, :first, :data)
""")


async def add_part(session: AsyncSession, key: WindowKey, partition: int, first_offset: int, part: Part) -> None:
    """What a batch counted of a window; `first_offset` gives it its place among the parts."""
    values = {
        "endpoint": key.endpoint, "version": key.version, "unit": key.unit, "start": key.start, "end": key.end,
        "partition": partition, "first": first_offset, "data": part.to_bytes(),
    }  # fmt: skip
    await session.execute(_ADD_PART, values)


async def note_event_time(session: AsyncSession, partition: int, event_time: datetime) -> None:
    """How far event time has come in a partition. A clock that is ahead must not tell what is yet to come: rows that
    wait behind such a record would be late."""
    insert = """
        INSERT INTO progress AS known (partition, event_time) VALUES (:p, least(CAST(:at AS timestamptz), now()))
        ON CONFLICT (partition) DO UPDATE SET event_time = greatest(known.event_time, excluded.event_time)
    """
    await session.execute(text(insert), {"p": partition, "at": event_time})


async def note_read_to_end(
    session: AsyncSession, partitions: Sequence[int], behind: Sequence[int], at: datetime
) -> None:
    """Which partitions were read to their end at a moment, and which are behind."""
    insert = """
        INSERT INTO progress (partition, read_to_end_at)
        SELECT p, CASE WHEN ahead THEN CAST(:at AS timestamptz) END
        FROM unnest(CAST(:all AS int[]), CAST(:ahead AS bool[])) AS given(p, ahead)
        ON CONFLICT (partition) DO UPDATE SET read_to_end_at = excluded.read_to_end_at
    """
    every = [*partitions, *behind]
    ahead = [True] * len(partitions) + [False] * len(behind)
    await session.execute(text(insert), {"all": every, "ahead": ahead, "at": at})


async def watermark(session: AsyncSession, partitions: int, lateness: timedelta) -> datetime | None:
    """Up to where event time is complete; None while a partition was never looked at."""
    select = """
        SELECT count(*) AS known, bool_and(coalesce(read_to_end_at, event_time) IS NOT NULL) AS told,
               min(greatest(read_to_end_at,
                            CASE WHEN event_time IS NOT NULL THEN least(event_time, now()) END)) AS reached
        FROM progress
    """
    row = (await session.execute(text(select))).one()
    return row.reached - lateness if row.known >= partitions and row.told else None


async def windows_to_close(session: AsyncSession, until: datetime, at_once: int = 100) -> list[WindowKey]:
    """Windows with parts that are not merged, in order, at most so many of each endpoint: none waits for another."""
    select = """
        SELECT endpoint, version, unit, start, "end" FROM (
            SELECT endpoint, version, unit, start, "end",
                   row_number() OVER (PARTITION BY endpoint ORDER BY start, "end", version) AS place
            FROM (SELECT DISTINCT endpoint, version, unit, start, "end" FROM part WHERE "end" <= :until) AS due
        ) AS placed WHERE place <= :at_once ORDER BY endpoint, start, "end", version
    """
    rows = await session.execute(text(select), {"until": until, "at_once": at_once})
    return [WindowKey(r.endpoint, r.version, r.unit, r.start, r.end) for r in rows]


async def anything_open(session: AsyncSession) -> bool:
    """Whether rows lie in windows that are not closed."""
    return bool(await session.scalar(text("SELECT EXISTS (SELECT 1 FROM part)")))


async def own(session: AsyncSession, name: str) -> bool:
    """Become the endpoint's one owner until the transaction ends; False where another worker is."""
    lock = "SELECT pg_try_advisory_xact_lock(hashtextextended(:e, 5))"
    return bool(await session.scalar(text(lock), {"e": name}))


_KEY = 'endpoint = :endpoint AND version = :version AND start = :start AND "end" = :end'


def _key(key: WindowKey) -> dict[str, Any]:
    return {"endpoint": key.endpoint, "version": key.version, "start": key.start, "end": key.end}


async def lock(session: AsyncSession, name: str) -> None:
    """Wait until no other worker owns the endpoint, then own it."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:e, 5))"), {"e": name})


async def serving(session: AsyncSession, name: str) -> tuple[str, int] | None:
    """Model and version that serve, version 0 for an endpoint that no longer does; None for one that is not known."""
    select = "SELECT model, CASE WHEN serving THEN version ELSE 0 END AS version FROM endpoint WHERE endpoint = :e"
    row = (await session.execute(text(select), {"e": name})).first()
    return (row.model, row.version) if row else None


async def take_parts(session: AsyncSession, key: WindowKey) -> list[Part]:
    """The parts of a window, by partition and offset; they are gone then."""
    take = f"""
        WITH taken AS (DELETE FROM part WHERE {_KEY} RETURNING partition, first_offset, data)
        SELECT data FROM taken ORDER BY partition, first_offset
    """
    return [Part.from_bytes(row.data) for row in await session.execute(text(take), _key(key))]


async def closed(session: AsyncSession, key: WindowKey) -> tuple[int, Part | None, MonitorReported] | None:
    """Revision, counts (None where they are too old) and report of a window that was closed before."""
    select = f"SELECT revision, data, report FROM closed_window WHERE {_KEY}"
    row = (await session.execute(text(select), _key(key))).first()
    if row is None:
        return None
    part = Part.from_bytes(row.data) if row.data is not None else None
    return row.revision, part, MonitorReported.model_validate(row.report)


async def save_closed(session: AsyncSession, key: WindowKey, part: Part | None, report: MonitorReported) -> None:
    """A window's newest revision in place of the one before; without a part its counts are gone."""
    insert = """
        INSERT INTO closed_window (endpoint, version, start, "end", unit, revision, rows, data, report)
        VALUES (:endpoint, :version, :start, :end, :unit, :revision, :rows, :data, CAST(:report AS jsonb))
        ON CONFLICT (endpoint, version, start, "end") DO UPDATE SET revision = excluded.revision,
            rows = excluded.rows, data = excluded.data, report = excluded.report
    """
    values = _key(key) | {
        "unit": key.unit, "revision": report.revision, "rows": report.window.rows,
        "data": part.to_bytes() if part else None, "report": report.to_json().decode(),
    }  # fmt: skip
    await session.execute(text(insert), values)


async def parts_since(session: AsyncSession, key: WindowKey, since: datetime) -> list[Part]:
    """Closed windows of the same version that begin at or after `since` and before this one."""
    select = """
        SELECT data FROM closed_window
        WHERE endpoint = :endpoint AND version = :version AND start >= :since AND start < :start AND data IS NOT NULL
    """
    values = {"endpoint": key.endpoint, "version": key.version, "since": since, "start": key.start}
    return [Part.from_bytes(row.data) for row in await session.execute(text(select), values)]


async def reports(
    session: AsyncSession, name: str, before: tuple[datetime, int] | None, limit: int
) -> list[MonitorReported]:
    """Newest first."""
    select = """
        SELECT report FROM closed_window WHERE endpoint = :e
            AND (CAST(:start AS timestamptz) IS NULL OR (start, version) < (CAST(:start AS timestamptz), :version))
        ORDER BY start DESC, version DESC LIMIT :limit
    """
    start, number = before or (None, 0)
    rows = await session.execute(text(select), {"e": name, "start": start, "version": number, "limit": limit})
    return [MonitorReported.model_validate(row.report) for row in rows]


async def tidy(session: AsyncSession, kept_counts: int, kept: timedelta) -> None:
    """Forget the counts of old windows, and very old windows."""
    counts = """
        UPDATE closed_window AS w SET data = NULL FROM (
            SELECT endpoint, start FROM (
                SELECT endpoint, start, row_number() OVER (PARTITION BY endpoint ORDER BY start DESC) AS place
                FROM closed_window WHERE data IS NOT NULL
            ) AS numbered WHERE place = :kept
        ) AS edge WHERE w.endpoint = edge.endpoint AND w.start < edge.start AND w.data IS NOT NULL
    """
    await session.execute(text(counts), {"kept": kept_counts})
    # Without the cast PostgreSQL takes what is subtracted from a moment for a moment, and compares an interval.
    old = "DELETE FROM closed_window WHERE start < now() - CAST(:kept AS interval)"
    await session.execute(text(old), {"kept": kept})


# Watching


async def watch(session: AsyncSession, name: str, number: int) -> Watch | None:
    """The state of watching a version; None where it has just begun."""
    select = "SELECT state FROM watch WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": name, "v": number})).first()
    return Watch.from_bytes(row.state) if row else None


async def save_watch(session: AsyncSession, found: Endpoint, state: Watch) -> None:
    """In place of the state of whatever version was watched before."""
    insert = """
        INSERT INTO watch (endpoint, version, unit, state) VALUES (:e, :v, :u, :s)
        ON CONFLICT (endpoint) DO UPDATE SET version = excluded.version, unit = excluded.unit, state = excluded.state
    """
    values = {"e": found.endpoint, "v": found.version, "u": found.unit, "s": state.to_bytes()}
    await session.execute(text(insert), values)


async def drop_watch(session: AsyncSession, name: str) -> None:
    """What is watched next is watched anew."""
    for table in ("watch", "loss_watch"):
        await session.execute(text(f"DELETE FROM {table} WHERE endpoint = :e"), {"e": name})


@dataclass(frozen=True)
class FindingRow:
    """An alarm or a note as it was told."""

    id: UUID
    kind: str
    found_at: datetime
    event: DriftDetected
    closed_at: datetime | None
    closed_because: str | None


async def add_finding(
    session: AsyncSession, id: UUID, unit: str, kind: str, found_at: datetime, event: DriftDetected,
    dimension: Dimension = "data",
) -> None:  # fmt: skip
    """An alarm that is open until `close_alarms`, or a note."""
    insert = """
        INSERT INTO finding (id, endpoint, unit, kind, found_at, event, dimension)
        VALUES (:id, :endpoint, :unit, :kind, :found_at, CAST(:event AS jsonb), :dimension)
    """
    values = {"id": id, "endpoint": event.endpoint, "unit": unit, "kind": kind, "found_at": found_at,
              "event": event.to_json().decode(), "dimension": dimension}  # fmt: skip
    await session.execute(text(insert), values)


async def close_alarms(session: AsyncSession, name: str, reason: str) -> list[Dimension]:
    """Close the open alarms; answers of what they were."""
    update = """
        UPDATE finding SET closed_at = now(), closed_because = :reason
        WHERE endpoint = :e AND kind = 'alarm' AND closed_at IS NULL RETURNING dimension
    """
    return list(await session.scalars(text(update), {"e": name, "reason": reason}))


async def findings(session: AsyncSession, name: str, limit: int, dimension: Dimension = "data") -> list[FindingRow]:
    """Newest first."""
    select = "SELECT * FROM finding WHERE endpoint = :e AND dimension = :d ORDER BY found_at DESC LIMIT :limit"
    rows = await session.execute(text(select), {"e": name, "limit": limit, "d": dimension})
    return [
        FindingRow(r.id, r.kind, r.found_at, DriftDetected.model_validate(r.event), r.closed_at, r.closed_because)
        for r in rows
    ]
