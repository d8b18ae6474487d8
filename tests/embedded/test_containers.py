"""docker-compose.yml and the pair of Kafka and PostgreSQL that it gives: the same platform on others' images."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from deploy.embedded import jvm, kafka, postgres, secrets
from deploy.embedded.home import ROOT, Home
from deploy.embedded.part import Part, listening
from deploy.embedded.standalone import free_home, running
from services.kit.db import Database
from services.kit.migrate import MigrateError, migrate, stored_passwords

from .launching import Installation, place

pytestmark = pytest.mark.timeout(300)
_PASSWORDS = {"KAFKA_PASSWORD": "first-secret", "CONTROLLER_PASSWORD": "second-secret"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_holds_the_same_versions_as_the_embedded_platform(compose: dict[str, Any]) -> None:
    kafka_version = next(name.rpartition(":")[2] for name in jvm.WANTED if "kafka_" in name)
    shown = subprocess.run([postgres.binaries() / "postgres", "--version"], capture_output=True, text=True, check=True)
    major = re.search(r"(\d+)\.", shown.stdout)
    assert major
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{kafka_version}"
    assert compose["services"]["postgres"]["image"] == f"postgres:{major[1]}"


def test_compose_names_only_files_that_are_there(compose: dict[str, Any]) -> None:
    mounts = [volume for service in compose["services"].values() for volume in service["volumes"]]
    files = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]
    assert files
    for file in (*files, compose["services"]["fairlead"]["build"]["dockerfile"]):
        assert (ROOT / file).is_file(), file
    named = {mount.partition(":")[0] for mount in mounts if not mount.startswith("./")}
    assert named == set(compose["volumes"])


def test_compose_opens_no_port_beyond_the_machine_and_knows_no_password(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8080-8087:8080-8087"]
    text = (ROOT / "docker-compose.yml").read_text()
    made = subprocess.run(
        ["sh", ROOT / "deploy/docker/passwords.sh"], capture_output=True, text=True, check=True
    ).stdout
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    assert asked == {line.partition("=")[0] for line in made.splitlines()}
    assert all(len(line.partition("=")[2]) == 48 for line in made.splitlines())


def test_compose_is_valid_where_its_client_can_say_so(tmp_path: Path) -> None:
    client = shutil.which("docker")
    if not client or subprocess.run([client, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here")
    settings = os.environ | _PASSWORDS | {"POSTGRES_PASSWORD": "third-secret"}
    subprocess.run([client, "compose", "config", "-q"], cwd=ROOT, env=settings, check=True)


def _broker_of_the_container(home: Home) -> Part:
    """Kafka as deploy/docker/kafka.sh starts it, at this machine's addresses."""
    given = (ROOT / "deploy/docker/kafka.properties").read_text()
    for theirs, ours in (
        ("0.0.0.0:9092", f"127.0.0.1:{home.kafka_port}"), ("kafka:9092", f"127.0.0.1:{home.kafka_port}"),
        ("localhost:9093", f"127.0.0.1:{home.controller_port}"), ("/var/lib/kafka/data", str(home.data / "kafka")),
    ):  # fmt: skip
        assert theirs in given
        given = given.replace(theirs, ours)
    config = home.path / "kafka.properties"
    config.write_text(given)
    script = (ROOT / "deploy/docker/kafka.sh").read_text()
    cluster = re.search(r"--cluster-id (\S+)", script)
    assert cluster
    java = (str(jvm.java()), *kafka.JVM, "-cp", f"{jvm.jars()}/*")
    scram = f"SCRAM-SHA-256=[name=administrator,password={_PASSWORDS['KAFKA_PASSWORD']}]"
    tool = ("kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", cluster[1])
    subprocess.run([*java, *tool, "--config", config, "--add-scram", scram], env=_PASSWORDS, check=True, stdout=-3)
    return Part(
        name="kafka", argv=(*java, "kafka.Kafka", str(config)), log=home.logs / "kafka.log", environment=_PASSWORDS,
        ready=lambda _: listening(home.kafka_port),
    )  # fmt: skip


@pytest.fixture(scope="module")
def others() -> Iterator[Home]:
    """Somebody else's Kafka and PostgreSQL."""
    with place() as folder:
        home = free_home(folder / "others")
        home.path.mkdir()
        secrets.make_secrets(home)
        with running(_broker_of_the_container(home)), running(postgres.part(home)):
            yield home


def _on(others: Home, folder: Path) -> Installation:
    administrator = folder / "administrator.properties"
    administrator.write_text(
        f"bootstrap.servers=127.0.0.1:{others.kafka_port}\nsecurity.protocol=SASL_PLAINTEXT\n"
        f"sasl.mechanism=SCRAM-SHA-256\nsasl.username=administrator\nsasl.password={_PASSWORDS['KAFKA_PASSWORD']}\n"
    )
    given = {"FAIRLEAD_KAFKA": str(administrator), "FAIRLEAD_DATABASE": postgres.administrator_url(others)}
    return Installation(free_home(folder / "home"), services="catalog", extra=given)


def test_the_platform_runs_on_somebody_elses_kafka_and_postgresql(others: Home) -> None:
    with place() as folder:
        installation = _on(others, folder)
        try:
            installation.up()
            assert set(installation.pids()) == {"catalog"}
            shown = installation.run("status")
            assert shown.returncode == 0
            assert shown.stdout.count("external") == 2
            assert not (installation.home.data / "kafka").exists()
        finally:
            assert installation.run("down").returncode == 0
        assert installation.processes() == []
        assert listening(others.kafka_port)
        assert listening(others.postgres_port)


async def test_a_wrong_password_for_somebody_elses_postgresql_is_said(others: Home) -> None:
    wrong = f"postgresql://postgres:wrong@127.0.0.1:{others.postgres_port}/fairlead"
    with pytest.raises(MigrateError, match="password authentication failed"):
        await migrate(wrong, stored_passwords(others.path))


async def test_a_url_may_say_sslmode_as_providers_write_it(others: Home) -> None:
    urls = await migrate(f"{postgres.administrator_url(others)}?sslmode=prefer", stored_passwords(others.path))
    database = Database(urls["catalog"], "catalog")
    async with database.chassis() as session:
        assert await session.scalar(text("SELECT 1")) == 1
    await database.close()


async def test_an_option_that_is_not_understood_is_named(others: Home) -> None:
    with pytest.raises(MigrateError, match="cannot be used with nonsense"):
        await migrate(f"{postgres.administrator_url(others)}?nonsense=1", stored_passwords(others.path))


def test_migrations_can_be_repeated(others: Home) -> None:
    url, passwords = postgres.administrator_url(others), stored_passwords(others.path)
    first = asyncio.run(migrate(url, passwords))
    assert asyncio.run(migrate(url, passwords)) == first
