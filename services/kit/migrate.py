"""Makes roles, schemas and tables of all services: `python -m services.kit.migrate`.

Takes an administrator's URL from `FAIRLEAD_DATABASE`; writes every service's own URL into `secrets/database.json`.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_urlsafe

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from contracts import SERVICES, Service

SERVICES_FOLDER = Path(__file__).resolve().parents[1]
_CHASSIS = Path(__file__).with_name("migrations")
_ONE_AT_A_TIME = 7_304_613  # any number: an advisory lock, so that two launchers do not migrate at once

_NO_SUCH_DATABASE = "3D000"

_MARK = "Fairlead: the platform in database "
_TWO = (
    "the roles of a server are shared by all its databases, so give each platform a PostgreSQL server of its own; "
    "where the other platform is gone, drop its roles"
)

# A role without a mark is ours where the chassis' tables are open to it: earlier versions marked none.
_ROLES = """
    SELECT rolname, rolsuper, rolbypassrls, current_database() AS database, shobj_description(oid, 'pg_authid') AS mark,
           coalesce(has_table_privilege(oid, to_regclass(rolname || '.outbox'), 'INSERT'), false) AS serves_here
    FROM pg_roles WHERE rolname = ANY (:services)
"""

# A row is there for those whose units name its own; `*` names all. No setting, no rows.
_SECURE = """
CREATE OR REPLACE FUNCTION public.fairlead_secure(secured regclass) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    units CONSTANT text := $$(SELECT string_to_array(current_setting('app.units', true), ','))::text[]$$;
    seen CONSTANT text := format($$('*' = ANY (%s) OR unit = ANY (%s))$$, units, units);
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', secured);
    EXECUTE format('DROP POLICY IF EXISTS units ON %s', secured);
    EXECUTE format('CREATE POLICY units ON %s USING (%s) WITH CHECK (%s)', secured, seen, seen);
END
$body$
"""


class MigrateError(Exception):
    """PostgreSQL cannot be migrated; the message says why."""


async def migrate(administrator: str, passwords: dict[str, str]) -> dict[str, str]:
    """Bring the database to the newest revisions. Answers each service's URL. Raises MigrateError."""
    url = _parse(administrator)
    engine = await _connect(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ONE_AT_A_TIME})
            await connection.run_sync(_run, passwords)
    except (DBAPIError, CommandError) as error:
        cause = getattr(error, "orig", None) or error
        raise MigrateError(f"cannot migrate {_shown(url)}: {str(cause).splitlines()[0]}") from error
    finally:
        await engine.dispose()
    plain = url.set(drivername="postgresql")
    return {
        service: plain.set(username=service, password=passwords[service]).render_as_string(hide_password=False)
        for service in SERVICES
    }


def _parse(administrator: str) -> URL:
    try:
        url = make_url(administrator)
    except (ArgumentError, ValueError):
        raise MigrateError(
            "FAIRLEAD_DATABASE is not a URL such as postgresql://user:password@host:5432/fairlead"
        ) from None
    if url.get_backend_name() not in ("postgresql", "postgres") or not url.database:
        raise MigrateError("FAIRLEAD_DATABASE must be a postgresql:// URL that names a database")
    # libpq's name of it, which every provider's URLs have, and asyncpg's.
    query = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}
    return url.set(drivername="postgresql+asyncpg", query=query)


async def _connect(url: URL) -> AsyncEngine:
    """An engine that has reached the database, which is made where the server has none of its name."""
    engine = create_async_engine(url, connect_args={"timeout": 10})
    try:
        async with engine.connect():
            return engine
    except (TypeError, ValueError) as error:  # asyncpg takes what stands behind the ? as its own arguments
        await engine.dispose()
        raise MigrateError(f"PostgreSQL at {_shown(url)} cannot be used with {', '.join(url.query)}: {error}") from None
    except (OSError, SQLAlchemyError) as error:
        await engine.dispose()
        cause = getattr(error, "orig", None) or error
        if getattr(cause, "sqlstate", None) != _NO_SUCH_DATABASE:
            why = str(cause).rsplit(">: ", 1)[-1] or "no answer within 10 s"
            raise MigrateError(f"PostgreSQL at {_shown(url)} cannot be used: {why}") from None
    await _create_database(url)
    return create_async_engine(url)


async def _create_database(url: URL) -> None:
    engine = create_async_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            name = str(url.database).replace('"', '""')
            await connection.execute(text(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'"))
    except SQLAlchemyError as error:
        why = getattr(error, "orig", None) or error
        raise MigrateError(f"there is no database {url.database} and it cannot be made: {why}") from None
    finally:
        await engine.dispose()


def _shown(url: URL) -> str:
    return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database}"


def _run(connection: Connection, passwords: dict[str, str]) -> None:
    connection.execute(text(_SECURE))
    connection.execute(text("REVOKE EXECUTE ON FUNCTION public.fairlead_secure(regclass) FROM PUBLIC"))
    known = _own_roles(connection)
    for service in SERVICES:
        for statement in _role(service, passwords[service], new=service not in known):
            connection.execute(text(statement))
        connection.execute(text(f"COMMENT ON ROLE {service} IS '{_mark(connection)}'".replace(":", "\\:")))
        connection.execute(text(f"SET LOCAL search_path = {service}"))
        _upgrade(connection, service, _CHASSIS, "chassis_revision")
        own = SERVICES_FOLDER / service / "migrations"
        if own.is_dir():
            _upgrade(connection, service, own, "service_revision")


def _mark(connection: Connection) -> str:
    """Whose a role is: the roles of a server are shared by all its databases."""
    return f"{_MARK}{connection.scalar(text('SELECT current_database()'))}".replace("'", "''")


def _own_roles(connection: Connection) -> set[str]:
    """The services' roles that are there and are this platform's. Raises MigrateError for one of somebody else."""
    found = connection.execute(text(_ROLES), {"services": [*SERVICES]}).all()
    for role in found:
        marked = (role.mark or "").removeprefix(_MARK) if (role.mark or "").startswith(_MARK) else None
        if role.rolsuper or role.rolbypassrls:
            raise MigrateError(f"the role {role.rolname} may pass over row-level security: take that right from it")
        if marked is None and not role.serves_here:
            raise MigrateError(f"a role {role.rolname} is there and is not Fairlead's: {_TWO}")
        if marked is not None and marked != role.database:
            raise MigrateError(f"the role {role.rolname} is of the platform in database {marked}: {_TWO}")
    return {role.rolname for role in found}


def _role(service: Service, password: str, *, new: bool) -> Iterator[str]:
    """A plain role that owns nothing: what it may do in its own schema comes by default privileges."""
    quoted = password.replace("'", "''")
    yield (
        f"{'CREATE' if new else 'ALTER'} ROLE {service} LOGIN NOCREATEDB NOCREATEROLE NOINHERIT PASSWORD '{quoted}'"
    ).replace(":", "\\:")
    yield f"ALTER ROLE {service} SET search_path = {service}"
    yield f"ALTER ROLE {service} SET idle_in_transaction_session_timeout = '60s'"
    yield f"CREATE SCHEMA IF NOT EXISTS {service}"
    yield f"GRANT USAGE ON SCHEMA {service} TO {service}"
    for things, rights in (("TABLES", "SELECT, INSERT, UPDATE, DELETE"), ("SEQUENCES", "USAGE, SELECT")):
        yield f"ALTER DEFAULT PRIVILEGES IN SCHEMA {service} GRANT {rights} ON {things} TO {service}"


def _upgrade(connection: Connection, schema: Service, folder: Path, version_table: str) -> None:
    """Run the revisions of a folder that the schema has not seen."""
    script = _scripts(folder)

    def pending(revision: object, context: MigrationContext) -> object:
        return script._upgrade_revs("head", revision)  # pyright: ignore[reportArgumentType, reportPrivateUsage]

    options = {"fn": pending, "version_table": version_table, "version_table_schema": schema}
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context):
        context.run_migrations()


def _scripts(folder: Path) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(_CHASSIS).replace("%", "%%"))
    config.set_main_option("version_locations", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return ScriptDirectory.from_config(config)


def stored_passwords(home: Path) -> dict[str, str]:
    """The roles' passwords of this home; new ones where it has none yet."""
    path = home / "secrets" / "database.json"
    urls: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    kept = {service: make_url(url).password for service, url in urls.items()}
    return {service: kept.get(service) or token_urlsafe(24) for service in SERVICES}


def store_urls(home: Path, urls: dict[str, str]) -> None:
    path = home / "secrets" / "database.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(urls, indent=1))
    part.replace(path)


def main() -> None:
    administrator, home = os.environ.get("FAIRLEAD_DATABASE", ""), Path(os.environ.get("FAIRLEAD_HOME") or ".fairlead")
    if not administrator:
        sys.exit("error: FAIRLEAD_DATABASE is not set: give an administrator's URL, postgresql://user:password@host/db")
    try:
        store_urls(home, asyncio.run(migrate(administrator, stored_passwords(home))))
    except MigrateError as error:
        sys.exit(f"error: {error}")
    print(f"{len(SERVICES)} schemas are at their newest revisions")


if __name__ == "__main__":
    main()
