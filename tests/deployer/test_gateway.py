"""Topics and rights of streaming endpoints in a real broker."""

from pathlib import Path
from uuid import uuid4

from services.deployer.gateway import KafkaStreams
from services.deployer.settings import DeployerSettings
from services.kit.provision import _standing_acls, connect, ensure_acls, read_properties
from services.kit.rights import endpoint_rights
from services.kit.testing import eventually


def streams(home: Path) -> KafkaStreams:
    return KafkaStreams(
        DeployerSettings(home=home, kafka_properties=home / "secrets" / "kafka" / "deployer.properties")
    )


def admitted(kafka: Path, endpoint: str) -> set[str]:
    """Who has a right on exactly this endpoint's topics."""
    standing = _standing_acls(connect(read_properties(kafka)))
    return {acl.principal for acl in standing if acl.name.endswith(f".{endpoint}")}


async def test_only_the_units_own_applications_are_let_in_and_after_removal_nobody(kafka: Path, home: Path) -> None:
    endpoint = f"own-{uuid4().hex[:8]}"
    # Left behind by another unit, however it came there.
    ensure_acls(read_properties(kafka), endpoint_rights("other-unit", endpoint))
    await streams(home).open(endpoint, "retail")
    await eventually(lambda: admitted(kafka, endpoint) == {"User:application"}, within=15)
    await streams(home).open(endpoint, "retail")
    await streams(home).close(endpoint)
    await eventually(lambda: not admitted(kafka, endpoint), within=15)
    await streams(home).close(endpoint)
