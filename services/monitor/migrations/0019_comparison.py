"""Two versions on the same requests: what both answered, and who of them was right."""

from alembic import op

revision = "0019"
down_revision = "0018"

_STATEMENTS = (
    # As with `performance`, a partition of each stream (`source`) has rows of its own: nobody waits.
    """
    CREATE TABLE comparison (
        endpoint text NOT NULL,
        version integer NOT NULL,
        variant text NOT NULL,
        against integer NOT NULL,
        start timestamptz NOT NULL,
        "end" timestamptz NOT NULL,
        source text NOT NULL,
        partition integer NOT NULL,
        unit text NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (endpoint, version, variant, against, start, "end", source, partition)
    )
    """,
    "CREATE INDEX ON comparison (endpoint, start DESC)",
    "CREATE INDEX ON comparison (start)",
    "SELECT public.fairlead_secure('monitor.comparison')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
