"""What the platform shows to Prometheus, and what our rules and dashboard ask for."""

import re
from collections.abc import Mapping

import httpx

from deploy.embedded.home import ROOT
from services.kit.settings import PORT_ORDER

_NAME = re.compile(r"fairlead_[a-z_]+")


def asked() -> set[str]:
    """Names of samples in `deploy/prometheus/alerts.yml` and on the dashboard."""
    texts = [(ROOT / "deploy" / place).read_text() for place in ("prometheus/alerts.yml", "grafana/fairlead.json")]
    return {name for text in texts for name in _NAME.findall(text)}


async def shown(places: Mapping[str, str]) -> set[str]:
    """Names of samples on the pages of all services, whose URLs `endpoints.json` tells."""
    names: set[str] = set()
    async with httpx.AsyncClient() as client:
        for service in PORT_ORDER:
            page = await client.get(f"{places[service]}/metrics")
            assert page.status_code == 200, service
            names |= set(_NAME.findall(page.text))
    return names
