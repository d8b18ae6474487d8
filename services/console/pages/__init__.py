"""The pages, one module each."""

from fastapi import APIRouter

from . import alerts, approvals, audit, endpoints, figures, login, models, overview, topics
from .shell import Shell

__all__ = ["routers"]


def routers(shell: Shell) -> list[APIRouter]:
    """The routes of every page."""
    return [
        page.router(shell) for page in (login, overview, models, endpoints, figures, topics, approvals, alerts, audit)
    ]
