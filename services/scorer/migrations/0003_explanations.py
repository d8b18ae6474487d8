"""Explanations of decisions, kept as they were answered."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    """
    CREATE TABLE explanation (
        id uuid PRIMARY KEY,
        unit text NOT NULL,
        inference_id text NOT NULL,
        asked_at timestamptz NOT NULL,
        said jsonb NOT NULL
    )
    """,
    "CREATE INDEX ON explanation (inference_id, asked_at)",
    "SELECT public.fairlead_secure('scorer.explanation')",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
