"""Roles of PostgreSQL belong to a server, not to a database: a platform takes none that are another's."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from contracts import SERVICES
from deploy.embedded.home import Home
from services.kit.migrate import MigrateError, _own_roles, migrate, stored_passwords


@pytest.fixture
async def administrator(_templates: str) -> AsyncIterator[AsyncConnection]:
    """A connection to the migrated database; nothing that is done on it stays."""
    url = f"{_templates}/fairlead_template".replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        yield connection
        await connection.rollback()
    await engine.dispose()


async def test_a_second_platform_on_a_server_takes_no_role_of_the_first(_templates: str, installation: Home) -> None:
    strangers: dict[str, str] = dict.fromkeys(SERVICES, "another")
    name = f"second_{uuid4().hex}"
    with pytest.raises(MigrateError, match="of the platform in database fairlead_template"):
        await migrate(f"{_templates}/{name}", strangers)
    password = stored_passwords(installation.path)["catalog"]
    server = _templates.rpartition("@")[2]
    first = await asyncpg.connect(f"postgresql://catalog:{password}@{server}/fairlead_template")
    await first.close()
    mine = await asyncpg.connect(f"{_templates}/{name}")
    assert await mine.fetch("SELECT 1 FROM pg_namespace WHERE nspname = 'catalog'") == []
    await mine.close()


async def test_the_same_platform_changes_its_passwords(_templates: str, installation: Home) -> None:
    url, before = f"{_templates}/fairlead_template", stored_passwords(installation.path)
    try:
        urls = await migrate(url, {service: f"it's:{service}" for service in SERVICES})
        changed = await asyncpg.connect(urls["catalog"])
        await changed.close()
    finally:
        await migrate(url, before)


@pytest.mark.parametrize(
    ("done", "said"),
    [
        ("COMMENT ON ROLE catalog IS 'the company''s catalog'; REVOKE ALL ON catalog.outbox FROM catalog", "not Fair"),
        ("ALTER ROLE catalog BYPASSRLS", "row-level security"),
        ("COMMENT ON ROLE catalog IS 'Fairlead: the platform in database other'", "in database other"),
    ],
)
async def test_a_role_of_somebody_else_is_not_taken(administrator: AsyncConnection, done: str, said: str) -> None:
    for statement in done.split("; "):
        await administrator.execute(text(statement.replace(":", "\\:")))
    with pytest.raises(MigrateError, match=said):
        await administrator.run_sync(_own_roles)


async def test_a_role_of_an_earlier_version_is_known_by_its_rights(administrator: AsyncConnection) -> None:
    await administrator.execute(text("COMMENT ON ROLE catalog IS NULL"))
    assert await administrator.run_sync(_own_roles) == set(SERVICES)
