"""What followed from decisions: counts by window, and what was counted of each row, so that it can be revised."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    # A partition of `outcome.observed` has rows of its own, which its one worker alone writes: nobody waits.
    """
    CREATE TABLE performance (
        endpoint text NOT NULL,
        version integer NOT NULL,
        variant text NOT NULL,
        start timestamptz NOT NULL,
        "end" timestamptz NOT NULL,
        partition integer NOT NULL,
        unit text NOT NULL,
        task text NOT NULL,
        data bytea NOT NULL,
        groups bytea,
        PRIMARY KEY (endpoint, version, variant, start, "end", partition)
    )
    """,
    "CREATE INDEX ON performance (endpoint, start DESC)",
    "CREATE INDEX ON performance (start)",
    """
    CREATE TABLE outcome (
        inference_id text NOT NULL,
        row integer NOT NULL,
        unit text NOT NULL,
        endpoint text NOT NULL,
        version integer NOT NULL,
        variant text NOT NULL,
        start timestamptz NOT NULL,
        "end" timestamptz NOT NULL,
        observed_at timestamptz NOT NULL,
        counted jsonb NOT NULL,
        PRIMARY KEY (inference_id, row)
    )
    """,
    "CREATE INDEX ON outcome (start)",
    *(f"SELECT public.fairlead_secure('monitor.{table}')" for table in ("performance", "outcome")),
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
