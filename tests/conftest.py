"""One real Kafka and one real PostgreSQL for a whole test session, on free ports; a fresh database for each test."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import settings as hypothesis_settings

from contracts import Service
from deploy.embedded import postgres as embedded_postgres
from deploy.embedded import secrets
from deploy.embedded.home import Home
from deploy.embedded.standalone import free_home, running
from services.kit.db import Database
from services.kit.migrate import migrate, store_urls, stored_passwords
from tests.houses import started_broker, started_house

_TEMPLATE = "fairlead_template"

# How long an example takes says more about the machine's other work than about the code.
hypothesis_settings.register_profile("house", deadline=None)
hypothesis_settings.load_profile("house")


@pytest.fixture(scope="session")
def installation() -> Iterator[Home]:
    """Secrets, keys and addresses of this session's platform; nothing runs yet."""
    # Not below pytest's own folder: each session closes that to all others, to PostgreSQL's user too.
    with tempfile.TemporaryDirectory(prefix="fairlead-test-", ignore_cleanup_errors=True) as folder:
        home = free_home(Path(folder))
        secrets.make_secrets(home)
        secrets.write_tokens(home)
        secrets.write_embedded_clients(home)
        yield home


@pytest.fixture(scope="session")
def kafka(installation: Home) -> Iterator[Path]:
    """An administrator's client properties for a running broker with all topics, principals and rights."""
    with started_broker(installation):
        yield installation.client_properties(secrets.LAUNCHER)


@pytest.fixture(scope="session")
def _templates(installation: Home) -> Iterator[str]:
    """A running PostgreSQL with a migrated database to copy; answers the administrator's URL without a database."""
    with running(embedded_postgres.part(installation)):
        server = embedded_postgres.administrator_url(installation).rpartition("/")[0]
        urls = asyncio.run(migrate(f"{server}/{_TEMPLATE}", stored_passwords(installation.path)))
        store_urls(installation.path, {name: url.replace(_TEMPLATE, "fairlead") for name, url in urls.items()})
        asyncio.run(_administer(server, f"CREATE DATABASE fairlead TEMPLATE {_TEMPLATE}"))
        yield server


@pytest.fixture(scope="session")
def postgres(_templates: str) -> str:
    """The administrator's URL of a running PostgreSQL, migrated; all tests of the session share this database."""
    return f"{_templates}/fairlead"


@pytest.fixture(scope="session")
def shared_environments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for models' libraries, so that tests that need the same install them once."""
    yield (folder := tmp_path_factory.mktemp("environments"))
    shutil.rmtree(folder)  # gigabytes


@pytest.fixture(scope="session")
def house() -> Iterator[Path]:
    """The home of a whole platform of its own, started as a user starts it."""
    with started_house() as folder:
        yield folder


@pytest.fixture
def home(installation: Home, tmp_path: Path) -> Path:
    """A FAIRLEAD_HOME of this test's own: keys, secrets, tokens and Kafka clients of the session's platform."""
    path = tmp_path / "home"
    for folder in ("keys", "kafka", "secrets", "tokens"):
        shutil.copytree(installation.path / folder, path / folder)
    for folder in ("objects", "spool", "run", "logs"):
        (path / folder).mkdir()
    return path


@pytest.fixture
async def database(_templates: str) -> AsyncIterator[str]:
    """The administrator's URL of a database of this test's own: migrated, empty."""
    name = f"test_{uuid4().hex}"
    await _administer(_templates, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield f"{_templates}/{name}"
    await _administer(_templates, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def service_url(database: str, installation: Home) -> Callable[[Service], str]:
    """The URL of a service's own role in this test's database."""
    name = database.rpartition("/")[2]
    urls = secrets.database_urls(installation)
    return lambda service: f"{urls[service].rpartition('/')[0]}/{name}"


@pytest.fixture
async def service_db(service_url: Callable[[Service], str]) -> AsyncIterator[Callable[[Service], Database]]:
    """`service_db("catalog")`: a Database as the service itself sees it, in this test's own database."""
    made: list[Database] = []

    def make(service: Service) -> Database:
        made.append(Database(service_url(service), service))
        return made[-1]

    yield make
    for database in made:
        await database.close()


async def _administer(server: str, statement: str) -> None:
    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
