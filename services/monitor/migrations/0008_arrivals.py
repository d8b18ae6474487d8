"""When rows come, and what was told of it: how long an endpoint's rows stay away, by hour."""

from alembic import op

revision = "0008"
down_revision = "0007"

_STATEMENTS = (
    """
    CREATE TABLE arrival (
        endpoint text PRIMARY KEY,
        unit text NOT NULL,
        first timestamptz NOT NULL,
        newest timestamptz NOT NULL,
        minutes bigint NOT NULL,
        quiet_at timestamptz,
        silent boolean NOT NULL,
        volume text,
        suspect text,
        suspect_at timestamptz,
        counted_at timestamptz
    )
    """,
    """
    CREATE TABLE lull (
        endpoint text NOT NULL,
        unit text NOT NULL,
        hour timestamptz NOT NULL,
        longest_s double precision NOT NULL,
        PRIMARY KEY (endpoint, hour)
    )
    """,
    "CREATE INDEX ON lull (hour)",
    *(f"SELECT public.fairlead_secure('monitor.{table}')" for table in ("arrival", "lull")),
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
