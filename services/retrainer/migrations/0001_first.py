"""What the retrainer knows of versions, and its jobs."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE model_version (
        model text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        registration jsonb NOT NULL,
        PRIMARY KEY (model, version)
    )
    """,
    """
    CREATE TABLE job (
        id uuid PRIMARY KEY,
        kind text NOT NULL,
        unit text NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        endpoint text,
        use_case text,
        since timestamptz,
        requested_by text NOT NULL,
        state text NOT NULL,
        reason text,
        attempt integer NOT NULL DEFAULT 0,
        orphaned integer NOT NULL DEFAULT 0,
        holder text,
        correlation_id text NOT NULL,
        traceparent text NOT NULL,
        requested_at timestamptz NOT NULL,
        started_at timestamptz,
        ended_at timestamptz,
        result jsonb NOT NULL DEFAULT '{}'
    )
    """,
    "CREATE INDEX ON job (requested_at, id) WHERE state IN ('requested', 'running')",
    "CREATE INDEX ON job (kind, requested_at DESC, id DESC)",
    "SELECT public.fairlead_secure('retrainer.model_version')",
    "SELECT public.fairlead_secure('retrainer.job')",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
