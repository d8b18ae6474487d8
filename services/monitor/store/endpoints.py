"""Endpoints and their versions: what is watched, with the settings that hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import DeploymentChanged, ModelSchema, MonitorSettings
from services.kit.errors import NotFound

from ..domain import rhythm
from ..domain.budget import beside_chosen
from ..domain.season import Season

Source = Literal["default", "package", "set", "learned"]
"""Where a setting comes from: nobody said it, the package of what is deployed did, a person did, or it was learned."""
_DEFAULTS = MonitorSettings()


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
    learned_season_s: float | None = None
    """A season that explained an alarm; one that is set wins over it."""
    season_learned_at: datetime | None = None
    deployed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings as the deployment says them."""
    override: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Those that a person set."""

    @property
    def sources(self) -> dict[str, Source]:
        """Where each setting comes from."""
        return {name: self._source(name) for name in MonitorSettings.model_fields}

    def _source(self, name: str) -> Source:
        value = getattr(self.settings, name)
        if name in self.override:
            return "set"
        if name == "season_s" and value is None and self.season.period_s:
            return "learned"
        return "default" if value == getattr(_DEFAULTS, name) else "package"

    def changed(self, changed: Mapping[str, Any]) -> "Endpoint":
        """With some settings set by a person; of None what the deployment says holds again."""
        override = {name: value for name, value in {**self.override, **changed}.items() if value is not None}
        settings = MonitorSettings.model_validate({**self.deployed, **override})
        return replace(self, settings=settings, override=override, overridden=bool(override))

    @property
    def budget_rows(self) -> int:
        """What all but the detectors that were chosen share out."""
        return beside_chosen(self.settings.budget_rows, self.settings.detectors)

    @property
    def season(self) -> Season:
        """What holds."""
        return rhythm.season(self.settings.season_s, self.learned_season_s, self.settings.window_s)

    @classmethod
    def of(cls, row: Any) -> "Endpoint":
        """From its row: what a person overrode holds over what the deployment says."""
        settings = MonitorSettings.model_validate(row.settings | (row.override or {}))
        return cls(
            row.endpoint, row.unit, row.use_case, row.serving, row.model, row.version, settings, bool(row.override),
            row.changed_at, row.learned_season_s, row.season_learned_at, row.settings, row.override or {},
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
        settings = excluded.settings, changed_at = now(),
        learned_season_s = CASE WHEN known.model = excluded.model THEN known.learned_season_s END,
        season_learned_at = CASE WHEN known.model = excluded.model THEN known.season_learned_at END
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
    """Keep an endpoint's desired state; answers whether it is newer than what was known.

    A season that was learned stays over versions of a model; another model has other columns.
    """
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


async def stop_serving(session: AsyncSession, name: str) -> str | None:
    """The endpoint is gone for good; answers its unit, None of one that is not known."""
    update = "UPDATE endpoint SET serving = false WHERE endpoint = :e RETURNING unit"
    return await session.scalar(text(update), {"e": name})


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


async def override(session: AsyncSession, name: str, settings: Mapping[str, Any]) -> None:
    """Settings that hold from now on whatever is deployed; those that are not named follow the deployments."""
    update = "UPDATE endpoint SET override = CAST(:s AS jsonb), changed_at = now() WHERE endpoint = :e"
    await session.execute(text(update), {"e": name, "s": orjson.dumps(dict(settings)).decode()})


async def version(session: AsyncSession, name: str, number: int) -> VersionRow | None:
    """None for one that no deployment has named yet."""
    select = "SELECT * FROM version WHERE endpoint = :e AND version = :v"
    row = (await session.execute(text(select), {"e": name, "v": number})).first()
    if row is None:
        return None
    schema = ModelSchema.model_validate(row.model_schema)
    return VersionRow(name, number, row.model, row.unit, row.baseline_digest, schema)


async def own(session: AsyncSession, name: str) -> bool:
    """Become the endpoint's one owner until the transaction ends; False where another worker is."""
    lock = "SELECT pg_try_advisory_xact_lock(hashtextextended(:e, 5))"
    return bool(await session.scalar(text(lock), {"e": name}))


async def lock(session: AsyncSession, name: str) -> None:
    """Wait until no other worker owns the endpoint, then own it."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:e, 5))"), {"e": name})


async def serving(session: AsyncSession, name: str) -> tuple[str, int] | None:
    """Model and version that serve, version 0 for an endpoint that no longer does; None for one that is not known."""
    select = "SELECT model, CASE WHEN serving THEN version ELSE 0 END AS version FROM endpoint WHERE endpoint = :e"
    row = (await session.execute(text(select), {"e": name})).first()
    return (row.model, row.version) if row else None


async def all_serving(session: AsyncSession) -> list[tuple[str, str]]:
    """Endpoints that serve, each with its unit."""
    select = "SELECT endpoint, unit FROM endpoint WHERE serving ORDER BY endpoint"
    return [(row.endpoint, row.unit) for row in await session.execute(text(select))]
