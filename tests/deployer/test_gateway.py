"""Topics and rights of streaming endpoints in a real broker."""

import asyncio
from pathlib import Path
from uuid import uuid4

from services.deployer.gateway import KafkaStreams
from services.deployer.jobs import TendTopics
from services.deployer.settings import DeployerSettings
from services.deployer.usecases import EndpointTopics
from services.kit.provision import _standing_acls, connect, ensure_acls, read_properties
from services.kit.rights import endpoint_rights
from services.kit.signing import Signer
from services.kit.testing import eventually

from .conftest import House
from .test_usecases import published


def streams(home: Path) -> KafkaStreams:
    return KafkaStreams(
        DeployerSettings(home=home, kafka_properties=home / "secrets" / "kafka" / "deployer.properties")
    )


def admitted(kafka: Path, endpoint: str) -> set[str]:
    """Who has a right on exactly this endpoint's topics."""
    standing = _standing_acls(connect(read_properties(kafka)))
    return {acl.principal for acl in standing if acl.name.endswith(f".{endpoint}")}


async def test_a_granted_endpoint_that_streams_is_said_as_soon_as_kafka_has_its_topics(
    kafka: Path, home: Path, house: House
) -> None:
    endpoint = f"own-{uuid4().hex[:8]}"
    signer = Signer(home / "keys" / "deployer.key", "deployer")
    topics = TendTopics(house.db, EndpointTopics(house.db, signer, streams(home), clock=lambda: house.now))
    tending = asyncio.create_task(topics.run())
    await house.knows()
    await house.is_granted(await house.asks(endpoint, streaming=True))

    async def said() -> bool:
        return bool(await published(house))

    await eventually(said, within=20)
    assert f"inference.requested.{endpoint}" in connect(read_properties(kafka)).list_topics().topics
    assert admitted(kafka, endpoint) == {"User:application"}
    await house.removes(endpoint)
    await eventually(lambda: not admitted(kafka, endpoint), within=20)
    tending.cancel()


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
