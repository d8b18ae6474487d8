"""The retrainer as it runs: its own role in a fresh database, its own home, real sandboxes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from contracts import Service
from services.kit.db import Database
from services.kit.objects import Objects
from services.retrainer.settings import RetrainerSettings

from .making import House


@pytest.fixture
def settings(home: Path, service_url: Callable[[Service], str]) -> RetrainerSettings:
    return RetrainerSettings(home=home, service_database=service_url("retrainer"), retraining_s=60, scoring_s=60)


@pytest.fixture
def house(settings: RetrainerSettings, service_db: Callable[[Service], Database]) -> House:
    return House(service_db("retrainer"), settings, Objects(settings))
