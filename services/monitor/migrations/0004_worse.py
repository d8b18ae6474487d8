"""Labels that came, for the test of whether a model became worse; alarms of data and of performance side by side."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    # Only added and, once the endpoint's owner has seen them, deleted: workers share no row.
    """
    CREATE TABLE loss_part (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        endpoint text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        task text NOT NULL,
        start_s double precision NOT NULL,
        bins jsonb NOT NULL
    )
    """,
    "CREATE INDEX ON loss_part (endpoint, id)",
    """
    CREATE TABLE loss_watch (
        endpoint text PRIMARY KEY,
        version integer NOT NULL,
        unit text NOT NULL,
        state jsonb NOT NULL
    )
    """,
    *(f"SELECT public.fairlead_secure('monitor.{table}')" for table in ("loss_part", "loss_watch")),
    "ALTER TABLE finding ADD COLUMN dimension text NOT NULL DEFAULT 'data'",
    "DROP INDEX one_open_alarm",
    """
    CREATE UNIQUE INDEX one_open_alarm ON finding (endpoint, dimension) WHERE kind = 'alarm' AND closed_at IS NULL
    """,
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
