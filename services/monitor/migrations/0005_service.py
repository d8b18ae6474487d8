"""How endpoints serve: inferences by minute and hour, what use cases promise, error budgets that burn."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    # A partition of the log has rows of its own, so that no worker waits for another; an hour is in one row.
    """
    CREATE TABLE slot (
        endpoint text NOT NULL,
        unit text NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        mode text NOT NULL,
        start timestamptz NOT NULL,
        length_s integer NOT NULL,
        partition integer NOT NULL,
        inferences bigint NOT NULL,
        rows bigint NOT NULL,
        latency jsonb NOT NULL,
        PRIMARY KEY (endpoint, start, length_s, model, version, mode, partition)
    )
    """,
    "CREATE INDEX ON slot (start)",
    """
    CREATE TABLE promise (
        use_case text PRIMARY KEY,
        unit text NOT NULL,
        latency_p99_ms double precision NOT NULL,
        availability double precision NOT NULL
    )
    """,
    # A row as long as the alarm is open.
    """
    CREATE TABLE burning (
        endpoint text NOT NULL,
        objective text NOT NULL,
        unit text NOT NULL,
        severity text NOT NULL,
        since timestamptz NOT NULL,
        detail text NOT NULL,
        PRIMARY KEY (endpoint, objective)
    )
    """,
    "ALTER TABLE usage ADD COLUMN until timestamptz",
    "SELECT set_config('app.units', '*', true)",
    "UPDATE usage SET until = CAST(report ->> 'until' AS timestamptz)",
    "CREATE INDEX ON usage (endpoint, until)",
    *(f"SELECT public.fairlead_secure('monitor.{table}')" for table in ("slot", "promise", "burning")),
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
