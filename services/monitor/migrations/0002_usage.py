"""What versions behind endpoints used of scorer hosts, as these said it."""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    """
    CREATE TABLE usage (
        endpoint text NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        replica text NOT NULL,
        since timestamptz NOT NULL,
        unit text NOT NULL,
        report jsonb NOT NULL,
        PRIMARY KEY (endpoint, model, version, replica, since)
    )
    """,
    "CREATE INDEX ON usage (endpoint, since DESC)",
    "CREATE INDEX ON usage (since)",
    "SELECT public.fairlead_secure('monitor.usage')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
