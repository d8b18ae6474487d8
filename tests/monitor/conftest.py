"""The monitor's settings against the session's broker and a database of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from contracts import Service
from services.kit.settings import Settings
from services.monitor.settings import MonitorSettings


@pytest.fixture
def monitor_settings(kafka: Path, home: Path, service_url: Callable[[Service], str]) -> MonitorSettings:
    properties = home / "secrets" / "kafka" / "monitor.properties"
    return MonitorSettings(home=home, kafka_properties=properties, service_database=service_url("monitor"))


@pytest.fixture
def speaker(kafka: Path, home: Path) -> Callable[[Service], Settings]:
    """`speaker("scorer")`: settings to speak as another service."""
    return lambda service: Settings(home=home, kafka_properties=home / "secrets" / "kafka" / f"{service}.properties")
