"""The HTTP side of every service as it is wired, each on a database of its own; what stands behind it is away."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import services.catalog.app as catalog
import services.console.app as console
import services.deployer.app as deployer
import services.governor.app as governor
import services.monitor.app as monitor
import services.recorder.app as recorder
import services.retrainer.app as retrainer
import services.scorer.batches.http as batches
from contracts import Service
from deploy.embedded.standalone import free_home
from services.catalog.settings import CatalogSettings
from services.console.settings import ConsoleSettings
from services.deployer.settings import DeployerSettings
from services.governor.settings import GovernorSettings
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.service import Parts, application, close
from services.monitor.settings import MonitorSettings
from services.recorder.settings import RecorderSettings
from services.retrainer.settings import RetrainerSettings
from services.scorer.batches.inputs import Inputs
from services.scorer.batches.serving import Serving
from services.scorer.imports.kserve.usecases import Intake
from services.scorer.settings import ScorerSettings
from services.scorer.tokenise import Tokeniser


@dataclass(frozen=True)
class Edge:
    """A service's application, its document, and a client with every right."""

    service: Service
    app: FastAPI
    document: dict[str, Any]
    http: httpx.AsyncClient


def _scorer(settings: ScorerSettings) -> Parts:
    db = Database(settings.service_database, "scorer")
    serving = Serving(settings)
    intake = Intake(db, Tokeniser.of(settings.keys), serving.wanted, frozenset)
    return batches.parts(settings, db, Inputs.of(settings, Objects(settings)), serving, intake, Progress())


_BUILT: dict[Service, tuple[Any, Any]] = {
    "catalog": (CatalogSettings, catalog.build),
    "deployer": (DeployerSettings, deployer.build),
    "scorer": (ScorerSettings, _scorer),
    "monitor": (MonitorSettings, monitor.build),
    "governor": (GovernorSettings, governor.build),
    "retrainer": (RetrainerSettings, retrainer.build),
    "recorder": (RecorderSettings, recorder.build),
    "console": (ConsoleSettings, console.build),
}


@pytest.fixture(params=_BUILT)
async def edge(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, service_url: Callable[[Service], str]
) -> AsyncIterator[Edge]:
    service: Service = request.param
    settings, build = _BUILT[service]
    given = settings(
        home=home, port=free_home(tmp_path / "free").port,
        kafka_properties=home / "secrets" / "kafka" / f"{service}.properties",
        service_database="" if service == "console" else service_url(service),
    )  # fmt: skip
    parts = build(given)
    app = application(parts)
    headers = {"authorization": f"Bearer {(home / 'tokens' / 'admin.jwt').read_text().strip()}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{service}", headers=headers) as http:
        document = (await http.get("/openapi.json")).json()
        yield Edge(service, app, document, http)
    await close(parts)
