"""What is estimated without labels: what was decided by window of outcomes, and what labels taught, by week."""

from alembic import op

revision = "0007"
down_revision = "0006"

_STATEMENTS = (
    # Written by the endpoint's owner alone, when it closes windows.
    """
    CREATE TABLE decided (
        endpoint text NOT NULL,
        version integer NOT NULL,
        variant text NOT NULL,
        unit text NOT NULL,
        start timestamptz NOT NULL,
        "end" timestamptz NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (endpoint, version, variant, start, "end")
    )
    """,
    "CREATE INDEX ON decided (endpoint, start DESC)",
    "CREATE INDEX ON decided (start)",
    # A partition of `outcome.observed` has rows of its own, which its one worker alone writes.
    """
    CREATE TABLE learned (
        endpoint text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        start timestamptz NOT NULL,
        partition integer NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (endpoint, version, start, partition)
    )
    """,
    "CREATE INDEX ON learned (start)",
    *(f"SELECT public.fairlead_secure('monitor.{table}')" for table in ("decided", "learned")),
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
