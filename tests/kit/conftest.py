"""Settings of one service against the session's broker and a database of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from contracts import Service
from services.kit.settings import Settings

ServiceSettings = Callable[[Service], Settings]


@pytest.fixture
def settings_of(kafka: Path, home: Path, service_url: Callable[[Service], str]) -> ServiceSettings:
    """`settings_of("catalog")`: what the launcher would give that service."""

    def make(service: Service) -> Settings:
        properties = home / "secrets" / "kafka" / f"{service}.properties"
        return Settings(home=home, kafka_properties=properties, service_database=service_url(service))

    return make


@pytest.fixture
def outsider(kafka: Path, home: Path) -> Settings:
    """An application of a business unit: it may write the open topics."""
    return Settings(home=home, kafka_properties=home / "kafka" / "application.properties")
