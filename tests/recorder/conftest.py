"""The recorder's settings against the session's broker and a database of the test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts import Service
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.settings import Settings
from services.recorder.settings import RecorderSettings

from .house import House


@pytest.fixture
def recorder_settings(kafka: Path, home: Path, service_url: Callable[[Service], str]) -> RecorderSettings:
    properties = home / "secrets" / "kafka" / "recorder.properties"
    return RecorderSettings(
        home=home,
        kafka_properties=properties,
        service_database=service_url("recorder"),
        flush_s=0.2,
        outcomes_flush_s=0.2,
    )


@pytest.fixture
def speaker(kafka: Path, home: Path) -> Callable[[Service], Settings]:
    """`speaker("scorer")`: settings to speak as another service."""
    return lambda service: Settings(home=home, kafka_properties=home / "secrets" / "kafka" / f"{service}.properties")


@pytest.fixture
def application(kafka: Path, home: Path) -> Settings:
    """An application: it may write the open topics."""
    return Settings(home=home, kafka_properties=home / "kafka" / "application.properties")


@pytest.fixture
def operator(kafka: Path, home: Path) -> Settings:
    """The operator may read every topic."""
    return Settings(home=home, kafka_properties=home / "kafka" / "operator.properties")


@pytest.fixture
def as_the_recorder() -> Iterator[None]:
    """For tests of what the service does by itself."""
    with use(Context(system("recorder"))):
        yield


@pytest.fixture
def house(service_db: Callable[[Service], Database], tmp_path: Path) -> House:
    return House(service_db("recorder"), RecorderSettings(home=tmp_path))
