"""What decisions rest on: the reference of each version, where its detector stands, and what windows counted."""

from alembic import op

revision = "0015"
down_revision = "0014"

_STATEMENTS = (
    """
    CREATE TABLE influence (
        endpoint text PRIMARY KEY,
        version integer NOT NULL,
        unit text NOT NULL,
        said_at timestamptz NOT NULL DEFAULT now(),
        facts jsonb NOT NULL,
        reference bytea
    )
    """,
    """
    CREATE TABLE attribution_watch (
        endpoint text PRIMARY KEY,
        version integer NOT NULL,
        unit text NOT NULL,
        state bytea NOT NULL
    )
    """,
    """
    CREATE TABLE attribution_window (
        endpoint text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        start timestamptz NOT NULL,
        "end" timestamptz NOT NULL,
        rows integer NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (endpoint, version, start, "end")
    )
    """,
    "CREATE INDEX attribution_window_start ON attribution_window (start)",
    "SELECT public.fairlead_secure('monitor.influence')",
    "SELECT public.fairlead_secure('monitor.attribution_watch')",
    "SELECT public.fairlead_secure('monitor.attribution_window')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
