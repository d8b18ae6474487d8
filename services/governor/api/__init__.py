"""HTTP in: thin routes, a file for each room."""

from fastapi import APIRouter

from services.governor.settings import GovernorSettings
from services.governor.usecases import Governor

from . import alerts, approvals, audit, identity, messages, processes, reports, routes, silences


def routers(settings: GovernorSettings, governor: Governor) -> list[APIRouter]:
    """All routes of the governor."""
    return [
        approvals.router(governor.approvals),
        processes.router(governor.reports, governor.retrainings),
        audit.router(governor.ledger),
        alerts.router(governor.alerts),
        messages.router(governor.alerts, governor.telling),
        routes.router(governor.routes, governor.telling),
        silences.router(governor.silences),
        reports.router(governor.reports),
        identity.router(settings),
    ]
