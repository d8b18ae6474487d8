"""Use cases, models, versions, and what was heard about where they serve."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = {
    "use_case": """
        CREATE TABLE use_case (
            name text PRIMARY KEY,
            unit text NOT NULL,
            content jsonb NOT NULL,
            registered_by text NOT NULL,
            registered_at timestamptz NOT NULL
        )
    """,
    # One row for each model: its lock gives the versions their numbers.
    "model": """
        CREATE TABLE model (
            name text PRIMARY KEY,
            unit text NOT NULL,
            versions integer NOT NULL DEFAULT 0,
            state text NOT NULL DEFAULT 'registered',
            tags text[] NOT NULL DEFAULT '{}',
            search tsvector NOT NULL DEFAULT ''::tsvector
        )
    """,
    "version": """
        CREATE TABLE version (
            model text NOT NULL REFERENCES model,
            version integer NOT NULL CHECK (version > 0),
            unit text NOT NULL,
            digest text NOT NULL,
            state text NOT NULL CHECK (state IN ('registered', 'quarantined', 'retired')),
            content jsonb NOT NULL,
            retraining_id text UNIQUE,
            registered_by text NOT NULL,
            registered_at timestamptz NOT NULL,
            retired_by text,
            retired_reason text,
            PRIMARY KEY (model, version)
        )
    """,
    "serving": """
        CREATE TABLE serving (
            endpoint text PRIMARY KEY,
            unit text NOT NULL,
            use_case text NOT NULL,
            revision integer NOT NULL,
            variants jsonb NOT NULL
        )
    """,
    "granted": """
        CREATE TABLE granted (
            approval_id text PRIMARY KEY,
            unit text NOT NULL,
            model text NOT NULL,
            version integer NOT NULL,
            endpoint text NOT NULL,
            granted_by text NOT NULL,
            granted_at timestamptz NOT NULL
        )
    """,
    "retraining": """
        CREATE TABLE retraining (
            retraining_id text PRIMARY KEY,
            unit text NOT NULL,
            model text NOT NULL,
            parent_version integer NOT NULL,
            outcome text NOT NULL,
            version integer,
            snapshot_digest text,
            trained_rows integer NOT NULL
        )
    """,
}

_INDEXES = (
    "CREATE INDEX ON model USING gin (search)",
    "CREATE INDEX ON model USING gin (tags)",
    "CREATE INDEX ON version (model, digest)",
    "CREATE INDEX ON granted (model, version)",
    "CREATE INDEX ON retraining (model)",
    "CREATE INDEX ON serving USING gin (variants)",
)


def upgrade() -> None:
    for name, statement in _TABLES.items():
        op.execute(statement)
        op.execute(f"SELECT public.fairlead_secure('catalog.{name}')")
    for statement in _INDEXES:
        op.execute(statement)
