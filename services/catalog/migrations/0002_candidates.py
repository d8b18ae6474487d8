"""Candidates of retrainings, from their arrival to their version or their refusal."""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    """
    CREATE TABLE candidate (
        retraining_id text PRIMARY KEY,
        unit text NOT NULL,
        model text NOT NULL,
        event jsonb NOT NULL,
        correlation_id text NOT NULL,
        traceparent text NOT NULL,
        state text NOT NULL DEFAULT 'waiting'
            CHECK (state IN ('waiting', 'inspecting', 'registered', 'refused', 'superseded')),
        reason text,
        attempt integer NOT NULL DEFAULT 0,
        failures integer NOT NULL DEFAULT 0,
        holder text,
        next_try timestamptz NOT NULL,
        arrived_at timestamptz NOT NULL,
        ended_at timestamptz
    )
    """,
    "CREATE INDEX ON candidate (next_try) WHERE state IN ('waiting', 'inspecting')",
    "CREATE INDEX ON candidate (model) WHERE state = 'refused'",
    "SELECT public.fairlead_secure('catalog.candidate')",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
