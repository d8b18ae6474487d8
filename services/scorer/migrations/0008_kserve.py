"""Halves of KServe's inferences until both are there, and what of them waits for the log."""

from alembic import op

revision = "0008"
down_revision = "0007"

_STATEMENTS = (
    # One row for both halves: whoever comes second waits for the first and sees it.
    """
    CREATE TABLE kserve_half (
        endpoint text NOT NULL,
        inference_id text NOT NULL,
        unit text NOT NULL,
        version integer NOT NULL,
        request bytea,
        request_at timestamptz,
        response bytea,
        response_at timestamptz,
        came_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (endpoint, inference_id)
    )
    """,
    "CREATE INDEX ON kserve_half (came_at)",
    "CREATE TABLE kserve_ready (number bigint PRIMARY KEY, unit text NOT NULL, record bytea NOT NULL)",
    """
    CREATE TABLE kserve_count (
        endpoint text PRIMARY KEY,
        unit text NOT NULL,
        joined bigint NOT NULL DEFAULT 0,
        repeated bigint NOT NULL DEFAULT 0,
        lone_requests bigint NOT NULL DEFAULT 0,
        lone_responses bigint NOT NULL DEFAULT 0
    )
    """,
    # Its row is locked until the record it numbers is there: numbers are seen in order and without gaps.
    "CREATE TABLE kserve_number (number bigint NOT NULL, writer text NOT NULL)",
    "INSERT INTO kserve_number VALUES (0, 'kserve.' || substr(CAST(gen_random_uuid() AS text), 1, 8))",
    *(f"SELECT public.fairlead_secure('scorer.{table}')" for table in ("kserve_half", "kserve_ready", "kserve_count")),
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
