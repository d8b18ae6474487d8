"""SQL of what use cases promise, and of error budgets that burn."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import UseCaseRegistered

from ..domain.service.burning import Severity
from ..domain.service.objectives import Name, Promise


@dataclass(frozen=True)
class Burn:
    """An error budget that burns too fast, as it was told."""

    objective: Name
    severity: Severity
    since: datetime
    detail: str


# Promises


async def save_promise(session: AsyncSession, event: UseCaseRegistered) -> None:
    """The service level of a use case, in place of what it promised before."""
    insert = """
        INSERT INTO promise (use_case, unit, latency_p99_ms, availability)
        VALUES (:use_case, :unit, :latency, :availability)
        ON CONFLICT (use_case) DO UPDATE SET unit = excluded.unit, latency_p99_ms = excluded.latency_p99_ms,
            availability = excluded.availability
    """
    values = {
        "use_case": event.use_case, "unit": event.unit, "latency": event.sla.latency_p99_ms,
        "availability": event.sla.availability,
    }  # fmt: skip
    await session.execute(text(insert), values)


async def promise(session: AsyncSession, use_case: str) -> Promise | None:
    """None for a use case that was not heard of."""
    select = "SELECT latency_p99_ms, availability FROM promise WHERE use_case = :u"
    row = (await session.execute(text(select), {"u": use_case})).first()
    return Promise(row.latency_p99_ms, row.availability) if row else None


# Error budgets that burn


async def to_judge(session: AsyncSession, since: datetime) -> list[tuple[str, str]]:
    """Endpoints, each with its unit, that were asked since a moment or have an open alarm."""
    select = """
        SELECT endpoint, unit FROM endpoint WHERE serving AND (
            EXISTS (SELECT 1 FROM slot WHERE slot.endpoint = endpoint.endpoint AND slot.start >= :since)
            OR EXISTS (SELECT 1 FROM usage WHERE usage.endpoint = endpoint.endpoint AND usage.until >= :since)
        )
        UNION SELECT endpoint, unit FROM burning ORDER BY endpoint
    """
    return [(row.endpoint, row.unit) for row in await session.execute(text(select), {"since": since})]


async def burning(session: AsyncSession, name: str) -> Mapping[Name, Burn]:
    """The open alarms of an endpoint, by objective."""
    select = "SELECT objective, severity, since, detail FROM burning WHERE endpoint = :e ORDER BY objective"
    rows = await session.execute(text(select), {"e": name})
    return {row.objective: Burn(row.objective, row.severity, row.since, row.detail) for row in rows}


async def save_burning(session: AsyncSession, name: str, unit: str, burn: Burn) -> None:
    """An alarm opens, or becomes worse: it began when it began."""
    insert = """
        INSERT INTO burning (endpoint, objective, unit, severity, since, detail)
        VALUES (:endpoint, :objective, :unit, :severity, :since, :detail)
        ON CONFLICT (endpoint, objective) DO UPDATE SET unit = excluded.unit, severity = excluded.severity,
            detail = excluded.detail
    """
    values = {
        "endpoint": name, "objective": burn.objective, "unit": unit, "severity": burn.severity, "since": burn.since,
        "detail": burn.detail,
    }  # fmt: skip
    await session.execute(text(insert), values)


async def end_burning(session: AsyncSession, name: str, objective: Name) -> None:
    """The alarm is over."""
    delete = "DELETE FROM burning WHERE endpoint = :e AND objective = :o"
    await session.execute(text(delete), {"e": name, "o": objective})
