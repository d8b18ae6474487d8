"""The pages, one module each."""

from fastapi import APIRouter

from . import (
    alert_routes,
    alerts,
    approvals,
    audit,
    comparison,
    endpoints,
    figures,
    login,
    models,
    overview,
    settings,
    silences,
    topics,
)
from .shell import Shell

__all__ = ["routers"]


def routers(shell: Shell) -> list[APIRouter]:
    """The routes of every page."""
    return [
        page.router(shell)
        for page in (
            login,
            overview,
            models,
            endpoints,
            figures,
            comparison,
            settings,
            topics,
            approvals,
            alerts,
            alert_routes,
            silences,
            audit,
        )
    ]
