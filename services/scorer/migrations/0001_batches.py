"""Batch jobs and their chunks; the ids of imported inferences."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE batch (
        id uuid PRIMARY KEY,
        unit text NOT NULL,
        endpoint text NOT NULL,
        application text NOT NULL,
        state text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
        input_digest text NOT NULL,
        file_name text NOT NULL,
        rows_total bigint NOT NULL,
        rows_done bigint NOT NULL DEFAULT 0,
        rows_failed bigint NOT NULL DEFAULT 0,
        chunk_rows integer NOT NULL,
        result_digest text,
        reason text,
        correlation_id text NOT NULL,
        traceparent text NOT NULL,
        created_at timestamptz NOT NULL,
        finished_at timestamptz
    )
    """,
    "CREATE INDEX ON batch (created_at) WHERE state IN ('queued', 'running')",
    "SELECT public.fairlead_secure('scorer.batch')",
    """
    CREATE TABLE batch_chunk (
        batch uuid NOT NULL REFERENCES batch (id) ON DELETE CASCADE,
        number integer NOT NULL,
        unit text NOT NULL,
        rows integer NOT NULL,
        failed integer NOT NULL,
        result_digest text NOT NULL,
        record_digest text,
        logged boolean NOT NULL DEFAULT false,
        PRIMARY KEY (batch, number)
    )
    """,
    "SELECT public.fairlead_secure('scorer.batch_chunk')",
    """
    CREATE TABLE imported (
        inference_id text PRIMARY KEY,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX ON imported (at)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
