"""How the deployer is wired."""

from collections.abc import Callable
from pathlib import Path

from contracts import Service
from services.deployer.app import build
from services.deployer.settings import DeployerSettings


async def test_readiness_needs_what_the_replicas_report(
    kafka: Path, home: Path, service_url: Callable[[Service], str]
) -> None:
    properties = home / "secrets" / "kafka" / "deployer.properties"
    parts = build(
        DeployerSettings(
            home=home, kafka_properties=properties, service_database=service_url("deployer"), removed_kept_h=24
        )
    )
    assert parts.db
    await parts.db.close()
    assert parts.progress.problems() == {"state replica.reported": "has not started"}
