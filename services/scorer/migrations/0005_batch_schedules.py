"""Standing orders for batches, and what each of their ticks and files became: once each."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    """
    CREATE TABLE batch_schedule (
        id uuid PRIMARY KEY,
        unit text NOT NULL,
        endpoint text NOT NULL,
        application text NOT NULL,
        said text NOT NULL,
        state text NOT NULL CHECK (state IN ('active', 'paused')),
        next_at timestamptz,
        missed bigint NOT NULL DEFAULT 0,
        reason text,
        created_at timestamptz NOT NULL
    )
    """,
    "SELECT public.fairlead_secure('scorer.batch_schedule')",
    """
    CREATE TABLE batch_run (
        schedule uuid NOT NULL REFERENCES batch_schedule (id) ON DELETE CASCADE,
        key text NOT NULL,
        unit text NOT NULL,
        batch uuid,
        reason text,
        at timestamptz NOT NULL,
        PRIMARY KEY (schedule, key)
    )
    """,
    "SELECT public.fairlead_secure('scorer.batch_run')",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
